"""The lives of a job: what each started from, so that lives without progress come to an end.

    start(folder, verb="train", job="4711", attempt=2)     # before the ranks start

A job that a node failure or the time limit ended is requeued and goes on. One that dies
at the same place each time would do so for ever; `lives.jsonl` in the run folder tells.
"""

import json
import os
import re
import time
from pathlib import Path
from typing import Any, cast

from training.disk import reported
from training.errors import ConfigError, UserError

LIVES = "lives.jsonl"
_FIELDS = {"job": str, "attempt": int, "progress": str, "started": float, "nodes": str}
"""What every line holds, for `start` and for `status`."""
NUM_IN_VAIN = 3
"""Lives of one job that may end where they began."""


class NoProgress(UserError):
    """A job has had its lives and none of them got further."""


def start(folder: Path, *, verb: str, job: str, attempt: int, parts: Path | None = None) -> None:
    """Record that a life begins.

    Args:
        folder: The run folder.
        verb: What runs in it: train, sample, evaluate, prepare.
        job: The batch system's id, the same in all lives.
        attempt: 0 for the first life.
        parts: Where it leaves what the next life goes on from; None: in `folder`.

    Raises:
        NoProgress: the job's last lives all began where this one would.
    """
    at = progress(parts or folder, verb)
    before = [life for life in read(folder) if life["job"] == job]
    in_vain = [life for life in before[-NUM_IN_VAIN:] if life["progress"] == at]
    if len(in_vain) == NUM_IN_VAIN:
        raise NoProgress(
            f"job {job} has had {len(before)} lives and the last {NUM_IN_VAIN} ended where they "
            f"began ({at}): it is not started again. See {folder / 'logs' / f'job-{job}'} for why "
            "they ended, then submit it anew: it goes on from there"
        )
    life = {"job": job, "attempt": attempt, "verb": verb, "progress": at, "started": time.time()}
    life["nodes"] = os.environ.get("SLURM_JOB_NODELIST", "")
    with reported(folder / LIVES):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LIVES).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(life) + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """All lives that were recorded, the oldest first; a torn or damaged line is passed over."""
    path = folder / LIVES
    lives: list[dict[str, Any]] = []
    for line in path.read_text("utf-8", "replace").splitlines() if path.is_file() else []:
        try:
            life: Any = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(life, dict):
            found = cast("dict[str, Any]", life)
            if all(isinstance(found.get(name), kind) for name, kind in _FIELDS.items()):
                lives.append(found)
    return lives


def progress(folder: Path, verb: str) -> str:
    """What a life would go on from, in words; the same words mean no progress."""
    if verb == "train":
        return f"step {saved_step(folder)}"
    parts = [path.stat().st_mtime_ns for path in folder.rglob("part-*.parquet")]
    # A part is written again when it is scored, so that their number alone would not tell.
    return f"{len(parts)} parts" + (f", the newest of {max(parts)}" if parts else "")


def saved_step(folder: Path) -> int:
    """The step of a training run's newest committed checkpoint; 0: there is none."""
    folders = (path for path in (folder / "checkpoints").glob("step_*") if path.is_dir())
    return max((step_of(path.name) or 0 for path in folders), default=0)


def step_of(name: str) -> int | None:
    """The step that a checkpoint's folder name `step_N` is of; None: it is no such name."""
    match = re.fullmatch(r"step_(0|[1-9][0-9]*)", name)
    return int(match.group(1)) if match else None


def jobs_folder(data_folder: Path) -> Path:
    """Where the lives and logs of preparing a data folder are."""
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
