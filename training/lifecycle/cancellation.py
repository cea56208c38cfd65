"""Ranks that work through shares of their own: told to stop together, watched for hangs.

pace = Pace(stop, watch)
with pace.share():                   # all ranks; no collective within
    for batch in mine:
        pace.safe_point()
        ...
"""

from collections.abc import Generator
from contextlib import contextmanager

from training.lifecycle.signals import StopSignal
from training.lifecycle.watchdog import HangWatch


class Pace:
    """Safe points of a rank that waits for no other within its share."""

    def __init__(self, stop: StopSignal, watch: HangWatch) -> None:
        """Both entered by the caller: they last longer than a share."""
        self._stop, self._watch = stop, watch

    def safe_point(self) -> None:
        """Something has moved, and here it may be left. Waits for nobody; any thread may call it.

        Raises:
            Stopped: a rank was told to stop.
        """
        self._watch.progress()
        self._stop.check()

    @contextmanager
    def share(self) -> Generator[None, None, None]:
        """The work of this rank, and the wait for the others, which is no hang.

        Raises:
            Stopped: on every rank, when any of them has left the block so.
        """
        with self._stop.agreed():
            self._watch.progress()
            try:
                yield
            finally:
                self._watch.rest()
        self._watch.progress()
