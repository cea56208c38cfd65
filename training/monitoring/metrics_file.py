"""`metrics.jsonl`: every number a run logged, one object a line, in the order of steps.

    {"step": 20, "train/tokens": 81920, "train/loss": 2.5, "train/grad_norm": 0.8}
    {"step": 20, "train/tokens": 81920, "eval/gsm8k/pass_at_1": 0.25}

A step has one line from training and may have later ones, from an evaluation for
instance. JSON has no NaN and no infinity: they stand as the strings "nan", "inf" and
"-inf", which `float()` reads. A resumed run drops what the attempt before it logged beyond the
checkpoint it resumes from, so that no step stands in the file twice.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from training.disk import reported
from training.files import replacing
from training.monitoring.names import EVALUATION, STEP

NAME = "metrics.jsonl"

Line = dict[str, Any]


class MetricsFile:
    """The open file of a running run; written by one process only."""

    def __init__(self, folder: Path, *, resume_step: int) -> None:
        """Open for appending, after dropping torn lines and those of steps > `resume_step`."""
        self.path = folder / NAME
        folder.mkdir(parents=True, exist_ok=True)
        _truncate(self.path, resume_step)
        self._stream = self.path.open("a", encoding="utf-8")

    def append(self, line: Mapping[str, float | int]) -> None:
        """Write one line and hand it to the system: a killed process loses none."""
        plain = {name: _plain(value) for name, value in line.items()}
        with reported(self.path):
            self._stream.write(json.dumps(plain, allow_nan=False) + "\n")
            self._stream.flush()

    def sync(self) -> None:
        """Flush to disk, so that a node that goes down loses none of it."""
        with reported(self.path):
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file."""
        # Every line was flushed: what is left here is of one that could not be, which is reported.
        with suppress(OSError):
            self._stream.close()


def read_lines(folder: Path) -> Iterator[Line]:
    """All whole lines of a run folder's file; none where there is no file.

    Torn lines, left by a kill or a full disk, are skipped.
    """
    path = folder / NAME
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as stream:
        for text in stream:
            line = _parsed(text)
            if line is not None:
                yield line


def has_evaluation(folder: Path, step: int) -> bool:
    """Whether an evaluation at this step was logged: its numbers are one line, or not there."""
    return any(
        line[STEP] == step and any(name.startswith(EVALUATION) for name in line)
        for line in read_lines(folder)
    )


def _plain(value: float | int) -> float | int | str:
    """A number as JSON can hold it; numpy's and torch's scalars become Python's."""
    if isinstance(value, int):
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else str(number)


def _parsed(text: str) -> Line | None:
    if not text.endswith("\n"):
        return None
    try:
        line = json.loads(text)
    except ValueError:
        return None
    if not isinstance(line, dict) or not isinstance(cast(Line, line).get(STEP), int):
        return None
    return cast(Line, line)


def _truncate(path: Path, resume_step: int) -> None:
    if not path.is_file():
        return
    kept = [line for line in read_lines(path.parent) if line[STEP] <= resume_step]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    if text != path.read_text(encoding="utf-8", errors="replace"):
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
