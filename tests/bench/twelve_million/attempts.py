"""Runs a command as one attempt of a step: measures it, and can kill it."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

_SAMPLE_SECONDS = 2.0
_PR_SET_PDEATHSIG = 1
_ROOT = Path(__file__).parents[3]


@dataclass(kw_only=True)
class Usage:
    """What an attempt took, over the command and all processes that it started."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    """Greatest sampled sum over its processes; pages that they share count once."""
    largest_process_bytes: int = 0
    """Greatest sampled resident size of one process."""
    exit_code: int | None = None
    """None while it runs, and where this script was killed with it."""
    was_killed: bool = False
    """Whether this script killed it."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


class Attempt:
    """A running command."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        """Start it; its output is appended to `log`."""
        self.usage = Usage()
        self._started = time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=_ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(_ROOT)},
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        self._known: dict[int, psutil.Process] = {}
        self._finished_cpu: dict[int, float] = {}

    def is_running(self) -> bool:
        """Whether the command has not ended; samples what it uses."""
        self._sample()
        code = self._process.poll()
        self.usage.wall_seconds = round(time.monotonic() - self._started, 1)
        self.usage.exit_code = code
        return code is None

    def wait(self, seconds: float = _SAMPLE_SECONDS) -> None:
        """Wait for its end, at most so long."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass

    def stop(self) -> None:
        """Ask the command to end, and wait until it has."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()

    def kill(self) -> None:
        """Kill the command and every process that it started."""
        processes = self._processes()
        os.killpg(self._process.pid, signal.SIGKILL)
        for process in processes:  # workers of a session of their own
            if process.is_running():
                process.kill()
        self._process.wait()
        self.usage.was_killed = True

    def _sample(self) -> None:
        total = 0
        for process in self._processes():
            try:
                with process.oneshot():
                    cpu, memory = process.cpu_times(), process.memory_full_info()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            self._finished_cpu[process.pid] = cpu.user + cpu.system
            total += memory.pss
            resident = max(self.usage.largest_process_bytes, memory.rss)
            self.usage.largest_process_bytes = resident
        self.usage.peak_bytes = max(self.usage.peak_bytes, total)
        self.usage.cpu_seconds = round(sum(self._finished_cpu.values()), 1)

    def _processes(self) -> list[psutil.Process]:
        try:
            first = self._known.setdefault(self._process.pid, psutil.Process(self._process.pid))
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def _end_with_parent() -> None:
    """In the child: receive SIGTERM when this script ends, whatever ends it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
