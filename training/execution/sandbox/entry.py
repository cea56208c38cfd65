"""Starts a jailed process: jail.py runs `main()` in a new interpreter.

It becomes two processes. The outer one stays outside the new process namespace and watches: it
ends the inner one when the process that started the jail has ended, in whatever way and whoever
still holds its descriptors. The inner one is locked down and serves requests.
"""

import json
import os
import signal
import socket
import sys
import sysconfig
from collections.abc import Callable
from typing import Any, NoReturn

from training.execution.sandbox import channel, lockdown, program, reader, seccomp, zygote
from training.execution.sandbox.monty import Monty

_SECONDS_BETWEEN_CHECKS = 0.5
_MEMORY_BYTES = 512 << 20
"""Memory of the reader and of Monty, on top of what is mapped when they start."""


def main() -> NoReturn:
    """Serve on the descriptor given as first argument, as the JSON second argument says."""
    control = os.dup(int(sys.argv[1]))  # a low number, whatever the parent has open
    os.close(int(sys.argv[1]))
    options = json.loads(sys.argv[2])
    for number in zygote.GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, zygote.GROUP_SIGNALS)  # jail.py has blocked them
    os.umask(0o022)
    in_namespaces = lockdown.enter_namespaces()
    ours, theirs = socket.socketpair()
    inner = os.fork()
    if inner:
        os.close(control)
        theirs.close()
        if options["role"] == "monty":
            lockdown.supervise(ours, lambda: os.getppid() == options["parent"])
        _watch(inner, options["parent"], has_group=options["role"] == "monty")
    ours.close()
    try:
        layers, serve = _locked_down(control, theirs, options, in_namespaces)
    except BaseException as error:
        channel.send(control, {"refused": f"{type(error).__name__}: {error}"})
        os._exit(0)
    try:
        channel.send(control, {"ready": True, "layers": layers})
        serve()
    finally:
        os._exit(0)  # the channel is closed, or this process can no longer reply


def _watch(inner: int, parent: int, *, has_group: bool) -> NoReturn:
    """Wait for the inner process; exit with 128 + the signal that ended it, or 0."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        ended, status = os.waitpid(inner, os.WNOHANG)
        if ended:
            break
        if os.getppid() != parent:
            os.kill(inner, signal.SIGKILL)
            if has_group:
                os.killpg(0, signal.SIGKILL)  # with Monty's worker, and this process
        signal.sigtimedwait({signal.SIGCHLD}, _SECONDS_BETWEEN_CHECKS)
    os._exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)


def _locked_down(
    control: int, supervisor: socket.socket, options: dict[str, Any], in_namespaces: bool
) -> tuple[list[str], Callable[[], NoReturn]]:
    """Lock this process down for its role; returns its layers of isolation and what serves."""
    role = options["role"]
    limits = lockdown.ChildLimits(**options["limits"])
    runs_cpython = role in reader.MODULES
    monty = Monty(limits) if role == "monty" else None
    if runs_cpython:
        zygote.preload(role)
    sys.path[:] = [folder for folder in sys.path if folder != options["root"]]
    mapped = lockdown.address_space_bytes()
    os.environ.clear()
    layers = ["seccomp", "rlimits"] + ["namespaces"] * in_namespaces
    if monty is not None:
        # Its worker is a file of the library; once it has started, nobody opens a file again.
        lockdown.drop_privileges(None)
        lockdown.die_with_parent()
        lockdown.limit_resources(
            address_space=mapped + _MEMORY_BYTES, cpu_seconds=None, has_children=True
        )
        lockdown.CallFilter(seccomp.for_monty).install_supervised(supervisor)
        monty.start()
        lockdown.seal(supervisor)
        if program.num_escapes():
            raise OSError("tier 1 can escape its sandbox")
        return layers, lambda: reader.serve(control, limits.timeout_seconds, monty)
    supervisor.close()
    libraries = _libraries() if runs_cpython else []
    is_hidden = in_namespaces and lockdown.hide_files(libraries)
    has_landlock = lockdown.drop_privileges(libraries)
    lockdown.die_with_parent()  # after the change of identity, which would clear it
    layers += ["mounts"] * is_hidden + ["landlock"] * has_landlock
    if not runs_cpython:
        lockdown.limit_resources(address_space=mapped + _MEMORY_BYTES, cpu_seconds=None)
        lockdown.CallFilter(seccomp.for_reader).install()
        return layers, lambda: reader.serve(control, limits.timeout_seconds, None)
    may_read_files = is_hidden or has_landlock
    server = zygote.Zygote(
        control,
        limits=limits,
        call_filter=lockdown.CallFilter(
            lambda table: seccomp.for_program(table, may_read_files=may_read_files)
        ),
        mapped_bytes=mapped,
    )
    return layers, server.serve


def _libraries() -> list[str]:
    """The folders of Python's library, which programs may read."""
    paths = sysconfig.get_paths()
    return sorted({paths[name] for name in ("stdlib", "purelib", "platlib")})
