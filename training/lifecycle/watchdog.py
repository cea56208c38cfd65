"""Watchdog: alerts when a rank makes no progress, and writes the stacks of its threads.

    with Watchdog(ranks, minutes=20, alert=tracker.alert) as watchdog:
        ...
        watchdog.heartbeat()             # after each step, batch and file
        watchdog.pause()                 # this rank is done and waits for the others

A rank that waits for a dead or stuck one gives up at its process group's timeout, and its
traceback then shows where it waited, not what it waited for. The watchdog ends nothing: it
writes the stack of every thread to standard error, which is in the rank's own log, and raises
one alert per silence.
"""

import faulthandler
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from typing_extensions import Self

from parallel.ranks import Ranks

_STDERR = 2
"""faulthandler writes to descriptors; sys.stderr may be a progress bar's."""
_CHECKS = 10
"""How often silence is checked for within the time it is allowed."""
_SECONDS_TO_END = 10.0
_HANGS = "rank {} hangs"


class Watchdog:
    """Alerts when `heartbeat` was not called for a number of minutes.

    Args:
        ranks: The processes of the run, connected.
        minutes: Silence that counts as a hang; 0: never.
        alert: Takes a title and a text; called on the main rank, from the watchdog's thread. It
            is called once for each silence of the main rank and once for each other rank that
            hangs; not for others while the main rank is silent itself, since ranks that meet in
            every step hang together.
    """

    def __init__(self, ranks: Ranks, *, minutes: float, alert: Callable[[str, str], None]) -> None:
        self._ranks, self._minutes, self._alert = ranks, minutes, alert
        self._last = time.monotonic()
        self._others = set(range(1, ranks.world_size)) if ranks.is_main else set[int]()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def heartbeat(self) -> None:
        """Report progress. Cheap; any thread may call it."""
        self._last = time.monotonic()

    def pause(self) -> None:
        """Expect no progress of this rank until the next `heartbeat`."""
        self._last = float("inf")

    def __enter__(self) -> Self:
        self.heartbeat()
        if self._minutes:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._minutes:  # the connection to the other ranks may be closed next
            self._thread.join(timeout=_SECONDS_TO_END)

    def _watch(self) -> None:
        seconds, reported = 60 * self._minutes, 0.0
        while not self._ended.wait(seconds / _CHECKS):
            last = self._last
            silence = time.monotonic() - last
            if last != reported and silence > seconds:
                reported = last
                self._write_stacks()
                if self._ranks.is_main:
                    self._raise_alert(self._ranks.rank)
                else:
                    with suppress(RuntimeError):  # the main rank may be gone
                        self._ranks.set_flag(_HANGS.format(self._ranks.rank))
            elif silence < seconds / 2:
                for rank in filter(self._reports_a_hang, sorted(self._others)):
                    self._others.remove(rank)
                    self._raise_alert(rank)

    def _reports_a_hang(self, rank: int) -> bool:
        return self._ranks.flag_is_set(_HANGS.format(rank))

    def _write_stacks(self) -> None:
        text = self._silence(self._ranks.rank)
        print(f"hang: {text}; the stacks of its threads:", file=sys.stderr, flush=True)
        faulthandler.dump_traceback(file=_STDERR)

    def _raise_alert(self, rank: int) -> None:
        self._alert(
            "the run hangs", f"{self._silence(rank)}; its log holds the stacks of its threads"
        )

    def _silence(self, rank: int) -> str:
        return f"no step, batch or checkpoint file for {self._minutes:g} minutes on rank {rank}"
