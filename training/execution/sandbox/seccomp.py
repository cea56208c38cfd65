"""Builds the filters of system calls: which calls a program may still make (classic BPF).

A program may make the calls that a CPython process needs, once started, to compute and to end.
All others fail with EPERM: no process, thread, socket, signal, new program, or new executable
memory. Files are opened read-only or not at all. As `rt_sigaction` and `rt_sigprocmask` are
denied too, the CPU-time signal can be neither caught nor blocked.

A program cannot wait: sleeping returns at once as if the time were over, and waiting for a lock
as if it had timed out (a program has one thread, so nobody could release it). So all that a
program can use up is CPU time, which is limited. Sleeping takes no time in tier 1 either.

Two machines: x86-64 and aarch64. Layout of `struct seccomp_data`: number at 0,
architecture at 4, arguments (64 bits each) from 16; see seccomp(2).
"""

import platform
import struct
from collections.abc import Iterable
from dataclasses import dataclass

_RETURN_ALLOW = 0x7FFF0000
_RETURN_KILL_PROCESS = 0x80000000
_RETURN_ERROR = 0x00050000
_RETURN_SUPERVISOR = 0x7FC00000
_DONE, _EPERM, _ETIMEDOUT = 0, 1, 110

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT = 0x15, 0x35, 0x45
_X32_BIT = 0x40000000

_PROT_EXEC = 4
_FUTEX_COMMAND = 0x7F  # the rest are flags
_FUTEX_WAITS = (0, 6, 9, 11, 13)
"""FUTEX_WAIT, _LOCK_PI, _WAIT_BITSET, _WAIT_REQUEUE_PI and _LOCK_PI2: those that block."""
_OPEN_FOR_WRITING = 0o1 | 0o2 | 0o100 | 0o1000 | 0o20000000
"""O_WRONLY, O_RDWR, O_CREAT, O_TRUNC and O_TMPFILE: the same bits on both machines."""


@dataclass(frozen=True)
class Machine:
    """One processor architecture: its audit id and its numbers of system calls."""

    audit: int
    compute: dict[str, int]
    """Always allowed."""
    sleep: dict[str, int]
    """Return 0 at once, as if the time were over."""
    futex: int
    read_files: dict[str, int]
    """Allowed where mounts or Landlock limit which files."""
    no_exec: dict[str, int]
    """Allowed unless the third argument asks for executable memory."""
    openat: int
    read: dict[str, int]
    """Allowed to the reader, which limits its own CPU time."""
    supervise: dict[str, int]
    """Allowed to tier 1, which has threads and a child, and sends the filter's listener."""
    seccomp: int


MACHINES = {
    "x86_64": Machine(
        audit=0xC000003E,
        compute=dict(
            read=0, write=1, close=3, fstat=5, lseek=8, munmap=11, brk=12, rt_sigreturn=15,
            sched_yield=24, mremap=25, madvise=28, getpid=39, exit=60, uname=63,
            gettimeofday=96, getrlimit=97, getuid=102, getgid=104, geteuid=107, getegid=108,
            gettid=186, sched_getaffinity=204, clock_gettime=228, clock_getres=229,
            exit_group=231, getrandom=318, rseq=334,
        ),
        sleep=dict(select=23, nanosleep=35, clock_nanosleep=230, pselect6=270),
        futex=202,
        read_files=dict(
            stat=4, lstat=6, pread64=17, getcwd=79, readlink=89, getdents64=217, newfstatat=262,
            readlinkat=267, statx=332,
        ),
        no_exec=dict(mmap=9, mprotect=10),
        openat=257,
        read=dict(setitimer=38),
        supervise=dict(
            poll=7, rt_sigprocmask=14, sendmsg=46, wait4=61, sigaltstack=131, epoll_wait=232,
            epoll_ctl=233, waitid=247, epoll_pwait=281,
        ),
        seccomp=317,
    ),
    "aarch64": Machine(
        audit=0xC00000B7,
        compute=dict(
            close=57, lseek=62, read=63, write=64, fstat=80, exit=93, exit_group=94,
            clock_gettime=113, clock_getres=114, sched_getaffinity=123, sched_yield=124,
            rt_sigreturn=139, uname=160, getrlimit=163, gettimeofday=169, getpid=172, getuid=174,
            geteuid=175, getgid=176, getegid=177, gettid=178, brk=214, munmap=215, mremap=216,
            madvise=233, getrandom=278, rseq=293,
        ),
        sleep=dict(pselect6=72, nanosleep=101, clock_nanosleep=115),
        futex=98,
        read_files=dict(
            getcwd=17, getdents64=61, pread64=67, readlinkat=78, newfstatat=79, statx=291,
        ),
        no_exec=dict(mmap=222, mprotect=226),
        openat=56,
        read=dict(setitimer=103),
        supervise=dict(
            epoll_ctl=21, epoll_pwait=22, ppoll=73, waitid=95, sigaltstack=132,
            rt_sigprocmask=135, sendmsg=211, wait4=260,
        ),
        seccomp=277,
    ),
}  # fmt: skip


def machine() -> Machine | None:
    """The table for this computer's architecture; None if there is none."""
    return MACHINES.get({"arm64": "aarch64"}.get(platform.machine(), platform.machine()))


def for_program(table: Machine, *, may_read_files: bool) -> bytes:
    """The filter of a program; it may read files only where another layer limits which."""
    return _assemble(
        table,
        allowed=[*table.compute.values(), *(table.read_files.values() if may_read_files else ())],
        opens_files=may_read_files,
    )


def for_reader(table: Machine) -> bytes:
    """The filter of the reader, which compiles programs without running them."""
    return _assemble(table, allowed=[*table.compute.values(), *table.read.values()])


def for_monty(table: Machine) -> bytes:
    """The filter of tier 1, which refers all calls it does not allow to its supervisor.

    The supervisor allows them while tier 1 starts, and then closes its end: from then on they
    fail with ENOSYS.
    """
    names = (table.compute, table.sleep, table.read, table.supervise)
    allowed = [number for calls in names for number in calls.values()]
    return _assemble(
        table, allowed=[*allowed, table.futex], waits=True, otherwise=_RETURN_SUPERVISOR
    )


def _assemble(
    table: Machine,
    *,
    allowed: Iterable[int],
    opens_files: bool = False,
    waits: bool = False,
    otherwise: int = _RETURN_ERROR | _EPERM,
) -> bytes:
    """The filter as an array of `struct sock_filter`."""
    code: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, 4),
        (_JUMP_EQUAL, 1, 0, table.audit),  # a foreign calling convention renumbers everything
        (_RETURN, 0, 0, _RETURN_KILL_PROCESS),
        (_LOAD, 0, 0, 0),
        (_JUMP_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _RETURN_KILL_PROCESS),
    ]

    def unless_bits(number: int, argument: int, bits: int) -> None:
        code.extend(
            [
                (_JUMP_EQUAL, 0, 4, number),
                (_LOAD, 0, 0, 16 + 8 * argument),
                (_JUMP_ANY_BIT, 0, 1, bits),
                (_RETURN, 0, 0, otherwise),
                (_RETURN, 0, 0, _RETURN_ALLOW),
            ]
        )

    for number in table.no_exec.values():
        unless_bits(number, 2, _PROT_EXEC)
    if opens_files:
        unless_bits(table.openat, 2, _OPEN_FOR_WRITING)
    if not waits:
        for number in table.sleep.values():
            code.extend([(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _RETURN_ERROR | _DONE)])
        code.append((_JUMP_EQUAL, 0, 2 * len(_FUTEX_WAITS) + 3, table.futex))
        code.extend([(_LOAD, 0, 0, 16 + 8 * 1), (_AND, 0, 0, _FUTEX_COMMAND)])
        for command in _FUTEX_WAITS:
            answer = (_RETURN, 0, 0, _RETURN_ERROR | _ETIMEDOUT)
            code.extend([(_JUMP_EQUAL, 0, 1, command), answer])
        code.append((_RETURN, 0, 0, _RETURN_ALLOW))
    for number in allowed:
        code.extend([(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _RETURN_ALLOW)])
    code.append((_RETURN, 0, 0, otherwise))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)
