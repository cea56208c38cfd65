"""A watch for hangs: silence is told, with the stacks of every rank, while it lasts.

    with HangWatch(minutes=20, alert=tracker.alert) as watch:
        ...
        watch.progress()                 # after each step, batch and file

A rank that waits for a dead or stuck one gives up at its process group's timeout, and its
traceback then shows where it waited, not what it waited for. The watch changes nothing: it
writes where each thread of this rank stands to standard error, which is in the rank's own
log, and tells people once for each silence.
"""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

from typing_extensions import Self

_STDERR = 2
"""faulthandler writes to descriptors; sys.stderr may be a progress bar's."""
_LOOKS = 10
"""How often the watch looks within the time it allows."""


class HangWatch:
    """Tells when `progress` was not called for so long.

    Args:
        minutes: Silence that counts as a hang; 0: never.
        alert: Takes a title and a text; called from the watch's thread.
    """

    def __init__(self, *, minutes: float, alert: Callable[[str, str], None]) -> None:
        self._minutes, self._alert = minutes, alert
        self._last = time.monotonic()
        self._ended = threading.Event()

    def progress(self) -> None:
        """Something has moved. Cheap; any thread may call it."""
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        self.progress()
        if self._minutes:
            threading.Thread(target=self._watch, name="hang watch", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()

    def _watch(self) -> None:
        seconds, told = 60 * self._minutes, 0.0
        while not self._ended.wait(seconds / _LOOKS):
            last = self._last
            if last != told and time.monotonic() - last > seconds:
                told = last
                self._tell()

    def _tell(self) -> None:
        text = (
            f"no step, evaluation batch or checkpoint file for {self._minutes:g} minutes on rank "
            f"{os.environ.get('RANK', '0')}"
        )
        print(f"hang: {text}; the stacks of its threads:", file=sys.stderr, flush=True)
        faulthandler.dump_traceback(file=_STDERR)
        self._alert("the run hangs", f"{text}; each rank's log shows where it stands")
