"""The attempts of a job and where each of them resumed: one without progress is not repeated.

    record(folder, verb="train", job="4711", attempt=2)     # before the ranks start

A job that a node failure or the time limit ended is queued again and resumes. One that fails
at the same place each time would be queued forever: `attempts.jsonl` in the run folder shows
that no attempt got further.
"""

import json
import os
import time
from pathlib import Path
from typing import Any, cast

from training.checkpoint_paths import saved_step
from training.disk import reported
from training.errors import ConfigError, UserError

ATTEMPTS = "attempts.jsonl"
_FIELDS = {"job": str, "attempt": int, "progress": str, "started": float, "nodes": str}
"""What every line holds, for `record` and for `status`."""
MAX_WITHOUT_PROGRESS = 3
"""Consecutive attempts of one job that may resume from the same point."""


class NoProgress(UserError):
    """The last attempts of a job saved nothing new."""


def record(folder: Path, *, verb: str, job: str, attempt: int, parts: Path | None = None) -> None:
    """Record that an attempt begins.

    Args:
        folder: The run folder.
        verb: What runs in it: train, sample, evaluate, prepare.
        job: The batch system's id, the same in all attempts.
        attempt: 0 for the first.
        parts: Where an attempt leaves what the next one resumes from; None: in `folder`.

    Raises:
        NoProgress: the job's last attempts all resumed from where this one would.
    """
    point = resume_point(parts or folder, verb)
    before = [entry for entry in read(folder) if entry["job"] == job]
    same = [entry for entry in before[-MAX_WITHOUT_PROGRESS:] if entry["progress"] == point]
    if len(same) == MAX_WITHOUT_PROGRESS:
        raise NoProgress(
            f"job {job} has made {len(before)} attempts and the last {MAX_WITHOUT_PROGRESS} saved "
            f"nothing new ({point}): it is not started again. See {folder / 'logs' / f'job-{job}'} "
            "for why they ended, then submit it again: it resumes from there"
        )
    entry = {
        "job": job,
        "attempt": attempt,
        "verb": verb,
        "progress": point,
        "started": time.time(),
        "nodes": os.environ.get("SLURM_JOB_NODELIST", ""),
    }
    with reported(folder / ATTEMPTS):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ATTEMPTS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """All recorded attempts, the oldest first; a torn or damaged line is skipped."""
    path = folder / ATTEMPTS
    attempts: list[dict[str, Any]] = []
    for line in path.read_text("utf-8", "replace").splitlines() if path.is_file() else []:
        try:
            content: Any = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(content, dict):
            entry = cast("dict[str, Any]", content)
            if all(isinstance(entry.get(name), kind) for name, kind in _FIELDS.items()):
                attempts.append(entry)
    return attempts


def resume_point(folder: Path, verb: str) -> str:
    """What an attempt would resume from, in words; the same words mean no progress."""
    if verb == "train":
        return f"step {saved_step(folder)}"
    parts = [path.stat().st_mtime_ns for path in folder.rglob("part-*.parquet")]
    # Scoring writes a part again, so that the number of parts alone would not show progress.
    return f"{len(parts)} parts" + (f", the newest of {max(parts)}" if parts else "")


def jobs_folder(data_folder: Path) -> Path:
    """Where the attempts and logs of preparing a data folder are."""
    return _beside(data_folder, "_jobs")


def parts_folder(data_folder: Path) -> Path:
    """Where preparing keeps what it has converted until the data folder is finished."""
    return _beside(data_folder, ".parts")


def _beside(data_folder: Path, ending: str) -> Path:
    if data_folder.name in ("", ".."):
        raise ConfigError(
            f"data.folder = {str(data_folder)!r} has no name of its own, which the folders beside "
            "it are named after: write a path that ends in the folder's name"
        )
    return data_folder.with_name(data_folder.name + ending)
