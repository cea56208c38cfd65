"""The system calls that are left to a program: a hand-assembled classic BPF filter.

Allowed is what an already started CPython needs to compute, sleep and end. Everything
else answers EPERM: no process, thread, socket, signal, new program, or new executable
memory. Files are opened read-only or not at all. Denying `rt_sigaction` and
`rt_sigprocmask` too means that the CPU-time signal can be neither caught nor blocked.

Two machines: x86-64 and aarch64. Layout of `struct seccomp_data`: number at 0,
architecture at 4, arguments (64 bits each) from 16; see seccomp(2).
"""

import platform
import struct
from dataclasses import dataclass

_RETURN_ALLOW = 0x7FFF0000
_RETURN_KILL_PROCESS = 0x80000000
_RETURN_EPERM = 0x00050000 | 1

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_X32_BIT = 0x40000000

_PROT_EXEC = 4
_OPEN_FOR_WRITING = 0o1 | 0o2 | 0o100 | 0o1000 | 0o20000000
"""O_WRONLY, O_RDWR, O_CREAT, O_TRUNC and O_TMPFILE: the same bits on both machines."""


@dataclass(frozen=True)
class Machine:
    """One processor architecture: its audit id and the numbers of its calls."""

    audit: int
    compute: dict[str, int]
    """Always allowed."""
    read_files: dict[str, int]
    """Allowed where Landlock limits which files."""
    no_exec: dict[str, int]
    """Allowed unless the third argument asks for executable memory."""
    openat: int


MACHINES = {
    "x86_64": Machine(
        audit=0xC000003E,
        compute=dict(
            read=0, write=1, close=3, fstat=5, lseek=8, munmap=11, brk=12, rt_sigreturn=15,
            select=23, sched_yield=24, mremap=25, madvise=28, nanosleep=35, getpid=39, exit=60,
            uname=63, gettimeofday=96, getrlimit=97, getuid=102, getgid=104, geteuid=107,
            getegid=108, gettid=186, futex=202, sched_getaffinity=204, clock_gettime=228,
            clock_getres=229, clock_nanosleep=230, exit_group=231, pselect6=270, getrandom=318,
            rseq=334,
        ),
        read_files=dict(
            stat=4, lstat=6, pread64=17, getcwd=79, readlink=89, getdents64=217, newfstatat=262,
            readlinkat=267, statx=332,
        ),
        no_exec=dict(mmap=9, mprotect=10),
        openat=257,
    ),
    "aarch64": Machine(
        audit=0xC00000B7,
        compute=dict(
            close=57, lseek=62, read=63, write=64, pselect6=72, fstat=80, exit=93, exit_group=94,
            futex=98, nanosleep=101, clock_gettime=113, clock_getres=114, clock_nanosleep=115,
            sched_getaffinity=123, sched_yield=124, rt_sigreturn=139, uname=160, getrlimit=163,
            gettimeofday=169, getpid=172, getuid=174, geteuid=175, getgid=176, getegid=177,
            gettid=178, brk=214, munmap=215, mremap=216, madvise=233, getrandom=278, rseq=293,
        ),
        read_files=dict(
            getcwd=17, getdents64=61, pread64=67, readlinkat=78, newfstatat=79, statx=291,
        ),
        no_exec=dict(mmap=222, mprotect=226),
        openat=56,
    ),
}  # fmt: skip


def machine() -> Machine | None:
    """This computer's table; None where there is none."""
    return MACHINES.get({"arm64": "aarch64"}.get(platform.machine(), platform.machine()))


def assemble(table: Machine, *, may_read_files: bool) -> bytes:
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
                (_RETURN, 0, 0, _RETURN_EPERM),
                (_RETURN, 0, 0, _RETURN_ALLOW),
            ]
        )

    for number in table.no_exec.values():
        unless_bits(number, 2, _PROT_EXEC)
    allowed = list(table.compute.values())
    if may_read_files:
        unless_bits(table.openat, 2, _OPEN_FOR_WRITING)
        allowed += table.read_files.values()
    for number in allowed:
        code.extend([(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _RETURN_ALLOW)])
    code.append((_RETURN, 0, 0, _RETURN_EPERM))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)
