"""A watch for hangs: silence is told, with the stacks of every rank, while it lasts.

    with Watchdog(ranks, minutes=20, alert=tracker.alert) as watch:
        ...
        watch.progress()                 # after each step, batch and file
        watch.rest()                     # its share is done; the other ranks' may not be

A rank that waits for a dead or stuck one gives up at its process group's timeout, and its
traceback then shows where it waited, not what it waited for. The watch changes nothing: it
writes where each thread of this rank stands to standard error, which is in the rank's own
log, and tells people once for each silence.
"""

import faulthandler
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from typing_extensions import Self

from parallel.ranks import Ranks

_STDERR = 2
"""faulthandler writes to descriptors; sys.stderr may be a progress bar's."""
_LOOKS = 10
"""How often the watch looks within the time it allows."""
_SECONDS_TO_END = 10.0
_HANGS = "rank {} hangs"


class Watchdog:
    """Tells when `progress` was not called for so long.

    Args:
        ranks: The processes of the run, connected.
        minutes: Silence that counts as a hang; 0: never.
        alert: Takes a title and a text; called on the first rank, from the watch's thread. Of
            another rank's hang it is told once, and not while the first stands still itself:
            ranks that meet in every step hang together.
    """

    def __init__(self, ranks: Ranks, *, minutes: float, alert: Callable[[str, str], None]) -> None:
        self._ranks, self._minutes, self._alert = ranks, minutes, alert
        self._last = time.monotonic()
        self._others = set(range(1, ranks.world_size)) if ranks.is_main else set[int]()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="hang watch", daemon=True)

    def progress(self) -> None:
        """Something has moved. Cheap; any thread may call it."""
        self._last = time.monotonic()

    def rest(self) -> None:
        """Nothing is left to do here until the next `progress`."""
        self._last = float("inf")

    def __enter__(self) -> Self:
        self.progress()
        if self._minutes:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._minutes:  # what it asks other ranks through may be closed next
            self._thread.join(timeout=_SECONDS_TO_END)

    def _watch(self) -> None:
        seconds, told = 60 * self._minutes, 0.0
        while not self._ended.wait(seconds / _LOOKS):
            last = self._last
            silence = time.monotonic() - last
            if last != told and silence > seconds:
                told = last
                self._write_stacks()
                if self._ranks.is_main:
                    self._tell_people(self._ranks.rank)
                else:
                    with suppress(RuntimeError):  # the first may be gone
                        self._ranks.set_flag(_HANGS.format(self._ranks.rank))
            elif silence < seconds / 2:
                for rank in filter(self._was_told_by, sorted(self._others)):
                    self._others.remove(rank)
                    self._tell_people(rank)

    def _was_told_by(self, rank: int) -> bool:
        return self._ranks.flag_is_set(_HANGS.format(rank))

    def _write_stacks(self) -> None:
        text = self._silence(self._ranks.rank)
        print(f"hang: {text}; the stacks of its threads:", file=sys.stderr, flush=True)
        faulthandler.dump_traceback(file=_STDERR)

    def _tell_people(self, rank: int) -> None:
        self._alert("the run hangs", f"{self._silence(rank)}; its log shows where it stands")

    def _silence(self, rank: int) -> str:
        return f"no step, batch or checkpoint file for {self._minutes:g} minutes on rank {rank}"
