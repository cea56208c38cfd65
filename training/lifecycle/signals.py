"""Ctrl-C, SIGTERM and SIGUSR1: all ranks stop together at their next check.

    with StopSignal(ranks) as stop:
        with stop.agreed():              # all ranks; no collective within
            for batch in batches:
                stop.check()             # raises Stopped after a signal to any rank
                ...

SIGUSR1 is what a batch system sends some minutes before its time limit (slurm/common.sh);
it may come any number of times. The second SIGINT or SIGTERM ends the process at once.
"""

import signal
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from typing_extensions import Self

from parallel.ranks import Ranks

EXIT_STOPPED = 130
"""Exit code of a run that a signal stopped after saving."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_STOP = "stop at the next check"
_SECONDS_BETWEEN_CHECKS = 1.0
"""How often a rank asks for the other ranks' signals: each asks rank 0's store."""


class Stopped(Exception):
    """A signal stopped the stage; its progress is saved, and the same command resumes."""


class StopSignal:
    """Turns signals into a request to stop that all ranks see.

    Args:
        ranks: The processes of the run, connected.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self.requested = False
        """Whether a signal has come to this rank."""
        self._last_check = -_SECONDS_BETWEEN_CHECKS
        self._before: dict[signal.Signals, Any] = {}

    def check(self) -> None:
        """Raise if a signal came to any rank. Waits for no other rank; any thread may call it.

        Raises:
            Stopped: a signal came to a rank.
            PeerFailed: a rank has failed; this one need not finish its work.
        """
        if self.requested:
            self._pass_on()
            raise Stopped
        now = time.monotonic()
        if now - self._last_check >= _SECONDS_BETWEEN_CHECKS:
            self._last_check = now
            if self._ranks.flag_is_set(_STOP):
                raise Stopped
            self._ranks.check_peers()

    @contextmanager
    def agreed(self) -> Generator[None, None, None]:
        """A block that all ranks enter and either all complete or all leave by `Stopped`.

        The block must hold no collective: a rank may leave it at any `check`.

        Raises:
            Stopped: on all ranks, when one of them has left the block by it.
        """
        stopped = False
        try:
            yield
        except Stopped:
            stopped = True
        # The rank that is done first must pass its signal on: the others may need an hour more.
        if self._ranks.any_rank(stopped, while_waiting=self._pass_on):
            raise Stopped

    def _pass_on(self) -> None:
        if self.requested:
            self._ranks.set_flag(_STOP)

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number in _SIGNALS:
            self._restore(number)

    def _request(self, number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        if not self.requested:
            print(f"{name}: stopping at the next check", file=sys.stderr, flush=True)
        self.requested = True
        if number != signal.SIGUSR1:
            for repeated in (signal.SIGINT, signal.SIGTERM):
                self._restore(repeated)

    def _restore(self, number: signal.Signals) -> None:
        if number in self._before:
            signal.signal(number, self._before.pop(number))
