"""Progress for people: a bar with rate and time left, or log lines when there is no terminal.

with Progress("sampling", total=4000, unit="candidates") as progress:
    progress.advance(32)
"""

import logging
import sys
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as RichProgress,
)
from typing_extensions import Self

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 20.0


class Progress:
    """A bar on standard error, or a log line every 20 seconds where that is no terminal.

    Args:
        label: What is done.
        total: How much of it there is.
        unit: What it is counted in.
        shown: Whether anything is shown or logged (on the main rank).
        logs_lines: Whether lines are logged without a terminal; false where the caller logs
            lines of its own.
    """

    def __init__(
        self, label: str, *, total: int, unit: str, shown: bool = True, logs_lines: bool = True
    ) -> None:
        self._label, self._total, self._unit, self._shown = label, total, unit, shown
        self._logs_lines = logs_lines
        self._done = self._skipped = 0
        self._start = self._last_line = time.monotonic()
        self._bar: RichProgress | None = None

    def __enter__(self) -> Self:
        console = Console(stderr=True)
        if self._shown and console.is_terminal:
            self._bar = RichProgress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=console,
                # Log lines then appear above the bar; a file gets them as they are.
                redirect_stdout=sys.stdout.isatty(),
            )
            self._bar.start()
            self._bar.add_task(self._label, total=self._total, rate="", note="")
        self._start = self._last_line = time.monotonic()
        return self

    def skip(self, count: int) -> None:
        """Count what an earlier attempt did; it does not enter the rate."""
        self._done += count
        self._skipped += count

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more as done; `note` is shown behind the bar."""
        self._done += count
        if not self._shown:
            return
        now = time.monotonic()
        rate = (self._done - self._skipped) / max(now - self._start, 1e-9)
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, completed=self._done, rate=f"{rate:,.1f} {self._unit}/s")
            if note:
                self._bar.update(task, note=note)
        elif self._is_line_due(now):
            self._last_line = now
            left = (self._total - self._done) / max(rate, 1e-9)
            line = (
                f"{self._label}: {self._done:,}/{self._total:,} {self._unit}, {rate:,.1f} "
                f"{self._unit}/s, {now - self._start:.0f} s so far, {left:.0f} s left"
            )
            logger.info(f"{line} {note}" if note else line)

    def _is_line_due(self, now: float) -> bool:
        is_due = now - self._last_line >= _SECONDS_BETWEEN_LINES or self._done == self._total
        return self._logs_lines and is_due

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
