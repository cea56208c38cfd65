"""What a jailed process gives up, in order: namespaces, identity, files, capabilities, calls.

    enter_namespaces()      first, single-threaded, before anything is imported
    drop_privileges(...)    after all imports: nobody, no capabilities, Landlock
    limit_resources(...)    in the process that runs a program
    CallFilter.install()    last, in the process that runs a program: seccomp

Seccomp is the wall that must stand: `CallFilter` raises without it. Namespaces, the
change of identity and Landlock are taken where the system gives them (containers and
clusters often do not) and say so by what they return; without Landlock, no file can be
opened at all. Linux only; importing this module elsewhere is harmless.
"""

import ctypes
import math
import os
import resource
import struct
from collections.abc import Sequence

from training.evaluation.sandbox import seccomp

_CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = (
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = (
    1,
    4,
    22,
    24,
    38,
)
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522
_NOBODY = 65534
_SIGKILL = 9

_LANDLOCK_CREATE, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_READ_FILE, _LANDLOCK_READ_DIR = 1 << 2, 1 << 3

_libc = ctypes.CDLL(None, use_errno=True)


def _failed(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that forked it ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)


def enter_namespaces() -> bool:
    """Leave the network, IPC and process namespaces; children are in the new ones.

    Returns whether it worked: False where neither root nor a user namespace is to be had.
    """
    flags = _CLONE_NEWIPC | _CLONE_NEWPID | _CLONE_NEWNET
    if os.getuid() == 0 and _libc.unshare(flags) == 0:
        return True
    uid, gid = os.getuid(), os.getgid()
    if _libc.unshare(flags | _CLONE_NEWUSER) != 0:
        return False
    try:
        for name, content in (
            ("setgroups", "deny"),
            ("uid_map", f"{_NOBODY} {uid} 1"),
            ("gid_map", f"{_NOBODY} {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as stream:
                stream.write(content)
    except OSError:
        pass  # unmapped is nobody as well
    return True


def drop_privileges(readable_folders: Sequence[str]) -> bool:
    """Become nobody without capabilities; of all files only `readable_folders` stay readable.

    Returns whether Landlock holds. If not, files must be closed off by `CallFilter`.
    """
    # Opened before the change of identity: a home folder of mode 700 may lie on the way.
    opened = [os.open(f, os.O_PATH | os.O_CLOEXEC) for f in readable_folders if os.path.isdir(f)]
    if os.getuid() == 0:
        try:
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        except OSError:
            pass  # root inside a user namespace that maps nobody else
    for capability in range(64):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = ctypes.create_string_buffer(struct.pack("<Ii", _CAPABILITY_VERSION_3, 0), 8)
    _libc.capset(header, ctypes.create_string_buffer(24))
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise _failed("no_new_privs")
    try:
        return _landlock(opened)
    except OSError:
        return False
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _landlock(readable: Sequence[int]) -> bool:
    """Deny every file and network right that this kernel knows; allow reading `readable`."""
    version = _libc.syscall(_LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        return False
    files = (1 << 13) - 1
    for since, bit in ((2, 13), (3, 14), (5, 15)):
        files |= (version >= since) << bit
    network = 3 if version >= 4 else 0
    scopes = 3 if version >= 6 else 0
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    attributes = struct.pack("<QQQ", files, network, scopes)[:size]
    rules = _libc.syscall(_LANDLOCK_CREATE, attributes, size, 0)
    if rules < 0:
        raise _failed("landlock_create_ruleset")
    try:
        for folder in readable:
            rule = struct.pack("<Qi", _LANDLOCK_READ_FILE | _LANDLOCK_READ_DIR, folder)
            if _libc.syscall(_LANDLOCK_ADD_RULE, rules, 1, rule, 0) != 0:
                raise _failed("landlock_add_rule")
        if _libc.syscall(_LANDLOCK_RESTRICT, rules, 0) != 0:
            raise _failed("landlock_restrict_self")
    finally:
        os.close(rules)
    return True


def address_space_bytes() -> int:
    """How much address space this process has mapped; needs /proc, so ask before Landlock."""
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[0]) * resource.getpagesize()


def limit_resources(*, address_space: int, cpu_seconds: float | None) -> None:
    """Set hard limits: memory, CPU (whole seconds, a backstop), and no files, cores, children."""
    limits = {
        resource.RLIMIT_AS: address_space,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_NOFILE: 16,
    }
    if cpu_seconds is not None:
        limits[resource.RLIMIT_CPU] = math.ceil(cpu_seconds) + 1
    for kind, value in limits.items():
        _, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(kind, (value, value))


class CallFilter:
    """The seccomp filter, assembled once and installed in each process that needs it."""

    def __init__(self, *, may_read_files: bool) -> None:
        table = seccomp.machine()
        if table is None:
            raise OSError(f"no table of system calls for {os.uname().machine}")
        content = seccomp.assemble(table, may_read_files=may_read_files)
        # Both buffers must outlive the call: the second holds the address of the first.
        self._code = ctypes.create_string_buffer(content, len(content))
        header = struct.pack("<HxxxxxxQ", len(content) // 8, ctypes.addressof(self._code))
        self._program = ctypes.create_string_buffer(header, len(header))

    def install(self) -> None:
        """Install it on this process, for good.

        Raises:
            OSError: this kernel has no seccomp filters, or they are switched off.
        """
        if _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, self._program, 0, 0) != 0:
            raise _failed("seccomp")
