"""Ctrl-C, SIGTERM and SIGUSR1 as a wish to stop, answered at the end of a step.

    with StopSignal() as stop:
        while not ranks.agree(stop.wanted): ...

SIGUSR1 is what a batch system sends some minutes before its time limit (slurm/common.sh);
it may come any number of times. The second SIGINT or SIGTERM is no longer held back: it
ends the process at once.
"""

import signal
import sys
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Any

from typing_extensions import Self

EXIT_STOPPED = 130
"""Exit code of a run that a signal stopped after saving."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Stopped(Exception):
    """A signal stopped the stage; what it had is saved, and the same command goes on."""


class StopSignal:
    """Notes the first signal that comes instead of dying of it.

    Args:
        signals: Those that are noted; the others do what they did before.
    """

    def __init__(self, signals: Iterable[signal.Signals] = _SIGNALS) -> None:
        self._signals = tuple(signals)
        self.wanted = False
        """Whether a signal has come."""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in self._signals:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number in self._signals:
            self._restore(number)

    def _note(self, number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        if not self.wanted:
            print(f"{name}: stopping at the next safe point", file=sys.stderr, flush=True)
        self.wanted = True
        if number != signal.SIGUSR1:
            for impatient in (signal.SIGINT, signal.SIGTERM):
                self._restore(impatient)

    def _restore(self, number: signal.Signals) -> None:
        if number in self._before:
            signal.signal(number, self._before.pop(number))
