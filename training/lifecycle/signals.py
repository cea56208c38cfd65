"""Ctrl-C, SIGTERM and SIGUSR1 to any rank as a wish to stop, answered by all of them.

    with StopSignal(ranks) as stop:
        with stop.agreed():              # all ranks; no collective within
            for batch in mine:
                stop.check()             # a safe point
                ...

SIGUSR1 is what a batch system sends some minutes before its time limit (slurm/common.sh);
it may come any number of times. The second SIGINT or SIGTERM is no longer held back: it
ends the process at once.
"""

import signal
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from typing_extensions import Self

from parallel.ranks import Ranks

EXIT_STOPPED = 130
"""Exit code of a run that a signal stopped after saving."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_STOP = "stop at the next safe point"
_SECONDS_BETWEEN_LOOKS = 1.0
"""How often a rank asks whether another was told to stop: they all ask the first one."""


class Stopped(Exception):
    """A signal stopped the stage; what it had is saved, and the same command goes on."""


class StopSignal:
    """Notes the first signal that comes instead of dying of it, and tells all ranks.

    Args:
        ranks: The processes of the run, connected.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self.wanted = False
        """Whether a signal has come to this rank."""
        self._last_look = -_SECONDS_BETWEEN_LOOKS
        self._before: dict[signal.Signals, Any] = {}

    def check(self) -> None:
        """Leave here if any rank was told to stop. Waits for nobody; any thread may call it.

        Raises:
            Stopped: one was.
            PeerFailed: a rank has failed; this one need not finish its work.
        """
        if self.wanted:
            self._pass_on()
            raise Stopped
        now = time.monotonic()
        if now - self._last_look >= _SECONDS_BETWEEN_LOOKS:
            self._last_look = now
            if self._ranks.flag_is_set(_STOP):
                raise Stopped
            self._ranks.check_peers()

    @contextmanager
    def agreed(self) -> Generator[None, None, None]:
        """What all ranks do, each at its own pace, and leave alike.

        The block must hold no collective: a rank may leave it at any `check`.

        Raises:
            Stopped: on every rank, when any of them has left the block so.
        """
        stopped = False
        try:
            yield
        except Stopped:
            stopped = True
        # Who is done first is told to stop like the others, who may need an hour more.
        if self._ranks.any_rank(stopped, while_waiting=self._pass_on):
            raise Stopped

    def _pass_on(self) -> None:
        if self.wanted:
            self._ranks.set_flag(_STOP)

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
        for number in _SIGNALS:
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
