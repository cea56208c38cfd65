"""Runs `launch/train.py` and reports how long each phase took until the first update was made.

    python -m tests.bench.startup_phases FILE.json TRAIN_ARGUMENTS...

The phases are found by wrapping what the trainer calls, so the numbers are of the shipped code.
"""

import functools
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

Clocks = tuple[float, float]
"""Wall-clock and CPU seconds."""

_CALLS = (
    ("checks and process groups", "parallel.groups", "Groups.connect"),
    ("open the data", "training.data.step_batches", "StepBatches.__init__"),
    ("model and engine", "parallel.engine", "Engine.__init__"),
    ("first batch", "training.data.step_batches", "StepBatches.next_step"),
    ("first update", "parallel.engine", "Engine.train_step"),
)
"""A phase, and the module and function at whose first end it ends."""


class Phases:
    """The time between the ends of phases."""

    def __init__(self) -> None:
        self.found: dict[str, Clocks] = {}
        self._last = (0.0, 0.0)

    def begin(self) -> None:
        """The next phase begins now."""
        self._last = _clocks()

    def end(self, name: str) -> None:
        """A phase ends, and the next begins."""
        now = _clocks()
        self.found[name] = (now[0] - self._last[0], now[1] - self._last[1])
        self._last = now


def main(argv: list[str]) -> None:
    """Run the command in this process."""
    phases = Phases()
    # Since the process began: Python itself and what this module imports.
    started = _seconds_since_start()
    phases.found["Python"] = (started, time.process_time())
    phases.begin()
    train = importlib.import_module("launch.train")
    phases.end("imports of the command line")
    for module in ("training.stages.runs.train", "training.trainer"):
        importlib.import_module(module)
    phases.end("imports of torch, DeepSpeed and the trainer")
    for number, (name, module, what) in enumerate(_CALLS, start=1):
        last = number == len(_CALLS)
        _wrap(importlib.import_module(module), what, functools.partial(_report, phases, name, last))
    train.main(argv[1:])


def _report(phases: Phases, name: str, last: bool) -> None:
    if name not in phases.found:
        phases.end(name)
    if last:
        _finish(phases)


def _finish(phases: Phases) -> NoReturn:
    Path(sys.argv[1]).write_text(json.dumps(phases.found), encoding="utf-8")
    raise SystemExit(0)


def _wrap(module: Any, what: str, then: Callable[[], None]) -> None:
    *owners, name = what.split(".")
    owner = functools.reduce(getattr, owners, module)
    original = owner.__dict__[name]
    is_class_method = isinstance(original, classmethod)
    function: Callable[..., Any] = original.__func__ if is_class_method else original

    @functools.wraps(function)
    def wrapped(*positional: Any, **named: Any) -> Any:
        result = function(*positional, **named)
        then()
        return result

    setattr(owner, name, classmethod(wrapped) if is_class_method else wrapped)


def _clocks() -> Clocks:
    return time.perf_counter(), time.process_time()


def _seconds_since_start() -> float:
    """Seconds since this process was started; Linux."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return uptime - ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main(sys.argv[1:])
