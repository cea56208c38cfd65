"""Starts, asks, restarts and ends the jailed processes, from the parent's side.

    with Jail("light", limits) as jail:
        reply = jail.ask({"code": ..., "kind": ...})

A jail that dies or hangs is ended, and the next `ask` starts another. A jail ends with its
context manager and with this process, however that ends, at most a second later.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from typing_extensions import Self

from training.config import ExecutionConfig
from training.errors import UserError
from training.execution.sandbox import channel, zygote

Role = Literal["reader", "monty", "light", "heavy", "heaviest"]

_ROOT = Path(__file__).resolve().parents[3]
_START = (
    "import sys; sys.path[0] = {root!r}; from training.execution.sandbox.entry import main; main()"
)
_START_SECONDS = 120.0
"""Generous, as sympy may be loaded from a cold network disk."""
_MARGIN_SECONDS = 10.0
"""How much longer than a program's own limits a reply may take before the jail counts as hung."""
_MAX_REASON = 4096
_MAX_RESULT_BYTES = 65_536
"""Of the reply about one program, without its parts."""
_MAX_GROWTH = 4
"""How much longer than a program its parts may be, as they are sent."""
_END_SECONDS = 1.0
"""How long after its channel closes a process may take to exit."""

_PROBE = "from training.execution.sandbox.program import num_escapes"
"""A program that tries each way out of the sandbox; the number that worked must be 0."""


@contextmanager
def _group_signals_blocked() -> Generator[None, None, None]:
    """Start a process that group signals do not reach until it has told the system to ignore them.

    An interpreter that is still starting ends with code 1 at Ctrl-C, as one that is broken does.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, zygote.GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class IsolationError(UserError):
    """No isolation can be had here, so nothing is run; the message says why."""


class JailDied(RuntimeError):
    """The jailed process ended or hung during a request."""


class OutOfTime(JailDied):
    """The jailed process was ended because a reply took too much CPU time."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one program may use."""

    timeout_seconds: float = 0.5
    """CPU seconds, so that the load of the machine does not change a verdict."""
    idle_seconds: float = 2.0
    """Wall-clock seconds between two checks of a running program. It is ended after three checks
    in a row that find it idle, or ten in all. A program cannot wait by itself, but a host may be
    suspended or give it no CPU time."""
    memory_mib: int = 256
    """Memory on top of the interpreter's own."""
    max_output_bytes: int = 65_536
    """A program that prints more bytes is ended."""

    @classmethod
    def from_config(cls, execution: ExecutionConfig) -> "Limits":
        """The limits that a config sets; the idle time has no setting."""
        return cls(
            timeout_seconds=execution.timeout_seconds,
            memory_mib=execution.memory_mib,
            max_output_bytes=execution.max_output_bytes,
        )


class Jail:
    """One jailed process, started by the first `ask`."""

    def __init__(self, role: Role, limits: Limits) -> None:
        self.layers: list[str] = []
        """The isolation in effect: `seccomp`, `rlimits`, `namespaces`, `mounts`, `landlock`."""
        self.num_programs = 0
        """Programs that the process was asked about since it was started."""
        self._role, self._limits = role, limits
        # Monty's worker is ended with its process group. The others stay in ours, so that Ctrl-C
        # in a terminal ends running programs.
        self._has_group = role == "monty"
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._complaints: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The process that watches the jailed one; None if it is not running."""
        return None if self._process is None else self._process.pid

    def ask(
        self, request: dict[str, Any], seconds: float | None = None, *, num_programs: int = 1
    ) -> dict[str, Any]:
        """Send one request and wait for its reply, whose fields are unchecked.

        Args:
            request: A request that the role's process understands.
            seconds: Wall-clock seconds after which the process counts as hung; by default some
                time after it should have ended the program itself.
            num_programs: Programs in the request.

        Raises:
            OutOfTime: the process limits the CPU time of a reply (the reader), and exceeded it.
            JailDied: the process ended or hung; the next call starts another.
            IsolationError: it could not be started, or is not isolated.
        """
        if seconds is None:
            # After that the jail itself was stopped: another one runs the program.
            seconds = zygote.MAX_CHECKS * self._limits.idle_seconds + _MARGIN_SECONDS
        try:
            if self._channel is None:
                self._start()
            self.num_programs += num_programs
            return self._exchange(request, seconds, num_programs)
        except (channel.ChannelClosed, TimeoutError) as error:
            ran_out = self._exit_code() == 128 + signal.SIGPROF
            self.close()
            if ran_out:
                raise OutOfTime(f"the {self._role} process ran out of CPU time") from error
            raise JailDied(f"the {self._role} process ended or hung") from error
        except BaseException:
            # Ctrl-C between request and reply: the next message would be the wrong reply.
            self.close()
            raise

    def start(self) -> None:
        """Start the process and check its isolation, before the first `ask`.

        Raises:
            IsolationError: it could not be started, or is not isolated.
            JailDied: it was ended from outside twice while it was starting.
        """
        # Ctrl-C in a terminal signals all processes, this one too.
        for _ in range(2):
            try:
                if self._channel is None:
                    self._start()
                return
            except (channel.ChannelClosed, TimeoutError):
                self.close()
            except BaseException:
                self.close()
                raise
        raise JailDied(f"the {self._role} process was ended twice while it was starting")

    def close(self) -> None:
        """End the process and everything it runs; may be called twice."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        self.num_programs = 0
        if self._process is not None:
            if self._has_group and self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._complaints is not None:
            self._complaints.close()
            self._complaints = None

    def _exchange(
        self, request: dict[str, Any], seconds: float, num_programs: int = 1
    ) -> dict[str, Any]:
        assert self._channel is not None
        num_sent = channel.send(self._channel.fileno(), request, seconds)
        # An error, a result and some names for each program, and the parts that it was cut into.
        most = _MAX_RESULT_BYTES * num_programs + _MAX_GROWTH * num_sent
        return channel.receive(
            self._channel.fileno(), seconds, max_bytes=min(most, channel.MAX_FRAME_BYTES)
        )

    def _start(self) -> None:
        if not sys.platform.startswith("linux"):
            raise IsolationError(f"no isolation can be had here: {sys.platform} is not Linux")
        self._channel, theirs = socket.socketpair()
        self._channel.setblocking(False)
        options = {
            "role": self._role,
            "root": str(_ROOT),
            "parent": os.getpid(),
            "limits": {
                "timeout_seconds": self._limits.timeout_seconds,
                "idle_seconds": self._limits.idle_seconds,
                "memory_bytes": self._limits.memory_mib << 20,
                "max_output_bytes": self._limits.max_output_bytes,
            },
        }
        # A clean environment: no keys or tokens for a program to find. The hash seed is fixed, so
        # that a program that iterates over a set of strings gives the same value each time. The
        # time zone is fixed as well, since the host's files may or may not be readable.
        environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "TZ": "UTC0"}
        environment.update(PYTHONDONTWRITEBYTECODE="1", OPENBLAS_NUM_THREADS="1")
        environment.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
        if "PYTHONPATH" in os.environ:
            environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
        command = [sys.executable, "-c", _START.format(root=str(_ROOT))]
        self._complaints = tempfile.TemporaryFile()
        with theirs, _group_signals_blocked():
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno()), json.dumps(options)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._complaints,
                env=environment,
                cwd="/",
                start_new_session=self._has_group,
            )
        self._check_isolation()

    def _last_complaint(self) -> str:
        """The last line that the process wrote to standard error."""
        if self._complaints is None:
            return "no message"
        self._complaints.seek(0)
        lines = self._complaints.read().decode("utf-8", "replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "no message")

    def _exit_code(self) -> int | None:
        """The process's exit code, shortly after its channel has closed; None: it still runs."""
        assert self._process is not None
        try:
            return self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return None

    def _check_isolation(self) -> None:
        assert self._channel is not None
        try:
            greeting = channel.receive(self._channel.fileno(), _START_SECONDS)
        except (channel.ChannelClosed, TimeoutError) as error:
            if (self._exit_code() or 0) < 0:
                raise  # ended by a signal from outside, which says nothing about isolation
            raise IsolationError(
                f"no isolation can be had here: the {self._role} process did not start "
                f"({self._last_complaint()})"
            ) from error
        if not channel.flag(greeting, "ready"):
            reason = channel.text(greeting, "refused", _MAX_REASON) or "it gave no reason"
            raise IsolationError(f"no isolation can be had here: {reason}")
        self.layers = greeting["layers"]
        if self._role in ("reader", "monty"):
            return  # the reader runs no program, and Monty's process has tried to escape itself
        reply = self._exchange({"code": _PROBE, "kind": "func:num_escapes"}, _START_SECONDS)
        report = channel.parsed(channel.text(reply, "report", zygote.MAX_REPORT_BYTES) or "")
        if report is None or channel.number(report, "number") != 0.0:
            raise IsolationError(
                f"no isolation can be had here: a test program escaped the sandbox ({reply})"
            )
