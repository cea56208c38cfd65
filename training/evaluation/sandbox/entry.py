"""Where a jailed process starts: `main()` is called by the one-liner in jail.py.

Two processes come of it. The outer one stays outside the new process namespace and only
watches: it ends the inner one when the project's process is gone, however that ended and
whoever else still holds its descriptors. The inner one is locked down and serves.
"""

import json
import os
import signal
import sys
import sysconfig
from typing import Any, NoReturn

from training.evaluation.sandbox import channel, lockdown, reader, zygote

_SECONDS_BETWEEN_LOOKS = 0.5
_READER_MEMORY_BYTES = 512 << 20


def main() -> NoReturn:
    """Serve on the descriptor given as first argument, as the JSON second argument says."""
    control = os.dup(int(sys.argv[1]))  # a low number, whatever the parent has open
    os.close(int(sys.argv[1]))
    options = json.loads(sys.argv[2])
    # Ctrl-C and Slurm's warnings go to whole process groups; the parent decides what they mean.
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    in_namespaces = lockdown.enter_namespaces()
    inner = os.fork()
    if inner:
        os.close(control)
        _watch(inner, options["parent"])
    try:
        _serve(control, options, in_namespaces)
    except channel.ChannelClosed:
        pass
    except BaseException as error:
        channel.send(control, {"refused": f"{type(error).__name__}: {error}"})
    os._exit(0)


def _watch(inner: int, parent: int) -> NoReturn:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while os.waitpid(inner, os.WNOHANG) == (0, 0):
        if os.getppid() != parent:
            os.kill(inner, signal.SIGKILL)
        signal.sigtimedwait({signal.SIGCHLD}, _SECONDS_BETWEEN_LOOKS)
    os._exit(0)


def _serve(control: int, options: dict[str, Any], in_namespaces: bool) -> None:
    is_reader = options["role"] == "reader"
    if not is_reader:
        zygote.preload(heavy=options["role"] == "heavy")
    sys.path[:] = [folder for folder in sys.path if folder != options["root"]]
    mapped = lockdown.address_space_bytes()
    paths = sysconfig.get_paths()
    libraries = [] if is_reader else [paths[n] for n in ("stdlib", "purelib", "platlib")]
    os.environ.clear()
    has_landlock = lockdown.drop_privileges(sorted(set(libraries)))
    lockdown.die_with_parent()  # after the change of identity, which would clear it
    call_filter = lockdown.CallFilter(may_read_files=has_landlock and not is_reader)
    layers = ["seccomp", "rlimits"] + ["namespaces"] * in_namespaces + ["landlock"] * has_landlock
    if is_reader:
        lockdown.limit_resources(address_space=mapped + _READER_MEMORY_BYTES, cpu_seconds=None)
        call_filter.install()
        channel.send(control, {"ready": True, "layers": layers})
        reader.serve(control)
    limits = zygote.ChildLimits(**options["limits"])
    server = zygote.Zygote(control, limits=limits, call_filter=call_filter, mapped_bytes=mapped)
    channel.send(control, {"ready": True, "layers": layers})
    server.serve()
