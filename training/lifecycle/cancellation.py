"""Work that each rank does on its own: cancelled on all ranks together, watched for hangs.

cancellation = Cancellation(stop, watchdog)
with cancellation.independent_work():        # all ranks; no collective within
    for batch in batches:
        cancellation.check_cancelled()
        ...
"""

from collections.abc import Generator
from contextlib import contextmanager

from training.lifecycle.signals import StopSignal
from training.lifecycle.watchdog import Watchdog


class Cancellation:
    """The points at which work that waits for no other rank may be cancelled."""

    def __init__(self, stop: StopSignal, watchdog: Watchdog) -> None:
        """Both are entered by the caller: they outlast a block of independent work."""
        self._stop, self._watchdog = stop, watchdog

    def check_cancelled(self) -> None:
        """Report progress, and raise if the run was asked to stop.

        Waits for no other rank; any thread may call it.

        Raises:
            Stopped: a signal came to one of the ranks.
        """
        self._watchdog.heartbeat()
        self._stop.check()

    @contextmanager
    def independent_work(self) -> Generator[None, None, None]:
        """The work of this rank, then the wait for the other ranks, which is no hang.

        Raises:
            Stopped: on all ranks, when one of them has left the block by it.
        """
        with self._stop.agreed():
            self._watchdog.heartbeat()
            try:
                yield
            finally:
                self._watchdog.pause()
        self._watchdog.heartbeat()
