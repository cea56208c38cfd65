"""The filter is run here by an interpreter of classic BPF, for machines this is not, too."""

import struct

import pytest

from training.execution.sandbox.seccomp import (
    MACHINES,
    Machine,
    for_monty,
    for_program,
    for_reader,
)

ALLOW, EPERM, KILL = 0x7FFF0000, 0x00050001, 0x80000000
DONE, ETIMEDOUT, SUPERVISOR = 0x00050000, 0x00050000 | 110, 0x7FC00000
FUTEX_WAIT, FUTEX_WAKE, FUTEX_WAIT_BITSET, PRIVATE = 0, 1, 9, 128


def verdict(program: bytes, *, audit: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What the filter answers to one system call."""
    data = struct.pack("<IIQ6Q", number, audit, 0, *(*arguments, *[0] * 6)[:6])
    accumulator, position = 0, 0
    instructions = list(struct.iter_unpack("<HBBI", program))
    while True:
        code, if_true, if_false, constant = instructions[position]
        position += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, constant)
        elif code == 0x54:
            accumulator &= constant
        elif code == 0x06:
            return constant
        else:
            holds = {
                0x15: accumulator == constant,
                0x35: accumulator >= constant,
                0x45: bool(accumulator & constant),
            }[code]
            position += if_true if holds else if_false


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES.keys())
@pytest.mark.parametrize("may_read_files", [True, False])
def test_only_the_listed_calls_pass(machine: Machine, may_read_files: bool) -> None:
    program = for_program(machine, may_read_files=may_read_files)
    listed = set(machine.compute.values()) | set(machine.no_exec.values())
    if may_read_files:
        listed |= {*machine.read_files.values(), machine.openat}
    for number in range(600):
        expected = ALLOW if number in listed else EPERM
        if number in machine.sleep.values():
            expected = DONE
        elif number == machine.futex:
            expected = ETIMEDOUT
        assert verdict(program, audit=machine.audit, number=number) == expected, number
    assert len(program) // 8 < 4096  # the kernel's limit on instructions


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES.keys())
def test_waiting_for_a_lock_times_out_and_waking_passes(machine: Machine) -> None:
    program = for_program(machine, may_read_files=False)

    def answer(operation: int) -> int:
        arguments = (0, operation)
        return verdict(program, audit=machine.audit, number=machine.futex, arguments=arguments)

    for operation in (FUTEX_WAIT, FUTEX_WAIT_BITSET, FUTEX_WAIT | PRIVATE, 9 | PRIVATE | 256):
        assert answer(operation) == ETIMEDOUT
    assert answer(FUTEX_WAKE) == answer(FUTEX_WAKE | PRIVATE) == ALLOW


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES.keys())
def test_the_reader_may_limit_its_time_and_open_nothing(machine: Machine) -> None:
    program = for_reader(machine)
    assert verdict(program, audit=machine.audit, number=machine.read["setitimer"]) == ALLOW
    assert verdict(program, audit=machine.audit, number=machine.openat) == EPERM


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES.keys())
def test_what_monty_does_not_need_is_the_supervisors_to_decide(machine: Machine) -> None:
    program = for_monty(machine)
    allowed = {
        machine.futex,
        *machine.compute.values(),
        *machine.sleep.values(),
        *machine.read.values(),
        *machine.supervise.values(),
        *machine.no_exec.values(),
    }
    for number in range(600):
        expected = ALLOW if number in allowed else SUPERVISOR
        assert verdict(program, audit=machine.audit, number=number) == expected, number
    for number in machine.no_exec.values():
        found = verdict(program, audit=machine.audit, number=number, arguments=(0, 0, 4))
        assert found == SUPERVISOR


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES.keys())
def test_arguments_are_looked_at(machine: Machine) -> None:
    program = for_program(machine, may_read_files=True)

    def answer(number: int, third: int) -> int:
        return verdict(program, audit=machine.audit, number=number, arguments=(0, 0, third))

    for number in machine.no_exec.values():
        assert answer(number, 3) == ALLOW
        assert answer(number, 4) == answer(number, 7) == EPERM
    assert answer(machine.openat, 0o2000000) == ALLOW  # O_CLOEXEC, for reading
    for writing in (0o1, 0o2, 0o100, 0o1000, 0o20000000, 0o1 | 0o2000000):
        assert answer(machine.openat, writing) == EPERM


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES.keys())
def test_foreign_conventions_are_killed(machine: Machine) -> None:
    program = for_program(machine, may_read_files=True)
    read = machine.compute["read"]
    assert verdict(program, audit=0x40000003, number=read) == KILL  # 32-bit x86
    assert verdict(program, audit=machine.audit, number=0x40000000 | read) == KILL  # x32
