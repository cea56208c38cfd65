"""Takes rights from a jailed process: namespaces, files, identity, capabilities, system calls.

    enter_namespaces()      first, single-threaded, before anything is imported
    hide_files(...)         after all imports: a file system with the Python library only
    drop_privileges(...)    user nobody, no capabilities, Landlock
    limit_resources(...)    in the process that runs a program
    CallFilter.install()    last, in the process that runs a program: seccomp

Seccomp is required: `CallFilter` raises without it. Namespaces, mounts, the change of identity
and Landlock are used where the system allows them (containers and clusters often do not); the
functions return whether they worked. Without mounts and Landlock, a program can open no file at
all. Linux only; importing this module elsewhere is harmless.
"""

import ctypes
import fcntl
import math
import os
import resource
import select
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.execution.sandbox import seccomp

_CLONE_NEWNS, _CLONE_NEWUTS = 0x00020000, 0x04000000
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
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SCAFFOLD = "/tmp"
"""Any folder works: the new file system is built over it, invisible to other processes."""
_HOST_NAME = b"sandbox"

_SECCOMP_MODE_FILTER = 2
_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_NEW_LISTENER = 1, 8
_NOTIFICATION_RECEIVE, _NOTIFICATION_SEND, _NOTIFICATION_CONTINUE = 0xC0502100, 0xC0182101, 1
_SECONDS_BETWEEN_CHECKS = 0.5
_CAPABILITY_VERSION_3 = 0x20080522
_NOBODY = 65534
_SIGKILL = 9

_LANDLOCK_CREATE, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_READ_FILE, _LANDLOCK_READ_DIR = 1 << 2, 1 << 3

_STACK_BYTES = 8 << 20
"""The same on each host, so that a program's recursion limit does not depend on `ulimit -s`."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class ChildLimits:
    """Limits of one program; `memory_bytes` is on top of what its process has mapped."""

    timeout_seconds: float
    idle_seconds: float
    memory_bytes: int
    max_output_bytes: int


def _failed(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that forked it ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)


def enter_namespaces() -> bool:
    """Enter new network, IPC, host name and process namespaces, the last for children only.

    Returns whether it worked: False without root and without user namespaces.
    """
    flags = _CLONE_NEWIPC | _CLONE_NEWPID | _CLONE_NEWNET | _CLONE_NEWUTS
    if os.getuid() == 0 and _libc.unshare(flags) == 0:
        return _libc.sethostname(_HOST_NAME, len(_HOST_NAME)) == 0
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
    return _libc.sethostname(_HOST_NAME, len(_HOST_NAME)) == 0


def hide_files(shown_folders: Sequence[str]) -> bool:
    """Move into a file system that holds nothing but `shown_folders`, at their own paths.

    Not even names, sizes and links of other files are visible there. The folders above the shown
    ones are readable there, even if their modes keep user nobody out on the host.

    Returns whether it worked. If not (outside of namespaces), nothing has changed.
    """
    number = _PIVOT_ROOT.get(os.uname().machine)
    if number is None or _libc.unshare(_CLONE_NEWNS) != 0:
        return False
    folders = sorted(folder for folder in shown_folders if os.path.isdir(folder))
    opened = [os.open(folder, os.O_PATH | os.O_CLOEXEC) for folder in folders]
    here = os.getcwd()
    is_built = False
    try:
        _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
        _mount("tmpfs", _SCAFFOLD, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755,size=1m")
        is_built = True
        for folder, descriptor in zip(folders, opened, strict=True):
            os.makedirs(_SCAFFOLD + folder, exist_ok=True)
            _mount(f"/proc/self/fd/{descriptor}", _SCAFFOLD + folder, None, _MS_BIND | _MS_REC)
        os.chdir(_SCAFFOLD)
        if _libc.syscall(number, b".", b".") != 0:
            raise _failed("pivot_root")
        if _libc.umount2(b".", _MNT_DETACH) != 0:
            raise _failed("umount of the old root")
    except OSError:
        os.chdir(here)
        if is_built:
            _libc.umount2(_SCAFFOLD.encode(), _MNT_DETACH)
        return False
    finally:
        for descriptor in opened:
            os.close(descriptor)
    os.chdir("/")
    return True


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    encoded = kind and kind.encode()
    if _libc.mount(source.encode(), os.fsencode(target), encoded, flags, options.encode()) != 0:
        raise _failed(f"mount on {target}")


def drop_privileges(readable_folders: Sequence[str] | None) -> bool:
    """Become user nobody without capabilities; only `readable_folders` stay readable.

    With None, access to files is not changed: for processes whose filter opens none later on.

    Returns whether Landlock is in effect. If it is not, and files are not hidden either,
    `CallFilter` has to deny opening them.
    """
    # Opened before the change of identity: a home folder of mode 700 may be on the path.
    folders = [folder for folder in readable_folders or () if os.path.isdir(folder)]
    opened = [os.open(folder, os.O_PATH | os.O_CLOEXEC) for folder in folders]
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
        return readable_folders is not None and _landlock(opened)
    except OSError:
        return False
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _landlock(readable: Sequence[int]) -> bool:
    """Deny all file and network access that this kernel can restrict, but reading `readable`."""
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
    """The address space that this process has mapped; reads /proc, so call it before Landlock."""
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[0]) * resource.getpagesize()


def limit_resources(
    *, address_space: int, cpu_seconds: float | None, has_children: bool = False
) -> None:
    """Set hard limits of memory, stack and CPU time; allow no large files, cores or children.

    The limit of CPU time is in whole seconds, as a fallback. With `has_children`, threads and
    child processes are allowed: tier 1 starts some.
    """
    limits = {
        resource.RLIMIT_AS: address_space,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_STACK: _STACK_BYTES,
        resource.RLIMIT_NOFILE: 64 if has_children else 16,
    }
    if not has_children:
        limits[resource.RLIMIT_NPROC] = 0
    if cpu_seconds is not None:
        limits[resource.RLIMIT_CPU] = math.ceil(cpu_seconds) + 1
    for kind, value in limits.items():
        _, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(kind, (value, value))


class CallFilter:
    """A seccomp filter, assembled once and installed in each process that needs it."""

    def __init__(self, assemble: Callable[[seccomp.Machine], bytes]) -> None:
        table = seccomp.machine()
        if table is None:
            raise OSError(f"no table of system calls for {os.uname().machine}")
        self._table, content = table, assemble(table)
        # Both buffers must outlive the call: the second holds the address of the first.
        self._code = ctypes.create_string_buffer(content, len(content))
        header = struct.pack("<HxxxxxxQ", len(content) // 8, ctypes.addressof(self._code))
        self._program = ctypes.create_string_buffer(header, len(header))

    def install(self) -> None:
        """Install it on this process, irrevocably.

        Raises:
            OSError: this kernel has no seccomp filters, or they are switched off.
        """
        if _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, self._program, 0, 0) != 0:
            raise _failed("seccomp")

    def install_supervised(self, link: socket.socket) -> None:
        """Install it; the process at the other end of `link` decides on calls it does not allow.

        Raises:
            OSError: this kernel has no supervised filters (Linux 5.5), or forbids them.
        """
        listener = _libc.syscall(
            self._table.seccomp,
            _SECCOMP_SET_MODE_FILTER,
            _SECCOMP_FILTER_NEW_LISTENER,
            self._program,
        )
        if listener < 0:
            raise _failed("seccomp with a supervisor")
        socket.send_fds(link, [b"l"], [listener])
        os.close(listener)


def seal(link: socket.socket) -> None:
    """End the supervision: calls that the filter does not allow are refused from now on."""
    os.write(link.fileno(), b"s")
    if os.read(link.fileno(), 1) != b"s":
        raise OSError("the supervisor has ended")


def supervise(link: socket.socket, is_needed: Callable[[], bool]) -> None:
    """Allow all calls of a process while it starts, until it calls `seal`.

    Args:
        link: Connects to the process, which first sends the listener of its filter.
        is_needed: Called about twice a second; the supervision ends when it returns False.
    """
    waiting = select.poll()
    waiting.register(link, select.POLLIN)
    listener = -1
    while is_needed():
        events = dict(waiting.poll(_SECONDS_BETWEEN_CHECKS * 1000))
        if link.fileno() in events and listener < 0:
            _, received, _, _ = socket.recv_fds(link, 1, 1)
            if not received:
                return
            listener = received[0]
            waiting.register(listener, select.POLLIN)
        elif link.fileno() in events:
            message = os.read(link.fileno(), 1)
            os.close(listener)
            if message:
                os.write(link.fileno(), message)
            return
        elif listener in events:
            notification = bytearray(80)
            try:
                fcntl.ioctl(listener, _NOTIFICATION_RECEIVE, notification)
                answer = notification[:8] + struct.pack("<qiI", 0, 0, _NOTIFICATION_CONTINUE)
                fcntl.ioctl(listener, _NOTIFICATION_SEND, answer)
            except OSError:
                continue  # the process that made the call has died meanwhile
    if listener >= 0:
        os.close(listener)
