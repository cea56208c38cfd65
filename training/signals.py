"""Ctrl-C and SIGTERM as a wish to stop, answered at the end of a step.

    with StopSignal() as stop:
        while not ranks.agree(stop.wanted): ...

The second signal is no longer held back: it ends the process at once.
"""

import signal
import sys
from types import FrameType, TracebackType
from typing import Any

from typing_extensions import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignal:
    """Notes the first SIGINT or SIGTERM instead of dying of it."""

    def __init__(self) -> None:
        self.wanted = False
        """Whether a signal has come."""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _note(self, number: int, _: FrameType | None) -> None:
        self.wanted = True
        self._restore()
        name = signal.Signals(number).name
        print(f"{name}: stopping at the next safe point", file=sys.stderr, flush=True)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
