"""Where checkpoints are: `RUN/checkpoints/step_N`.

    checkpoint_path(run_folder, 400)         # RUN/checkpoints/step_400
    step_of("step_400")                      # 400
    saved_step(run_folder)                   # step of the newest committed checkpoint

Beside the configs, which name checkpoints, and below checkpoints/, which writes them: it
imports neither torch nor any other module of ours.
"""

import re
from pathlib import Path

CHECKPOINTS = "checkpoints"
"""Folder of a run's checkpoints, within the run folder."""
TRAIN_STATE = "train_state.json"
"""File in a checkpoint: the run's state beside its weights (training/train_state.py)."""
_PREFIX = "step_"


def step_name(step: int) -> str:
    """The name of a checkpoint's folder."""
    return f"{_PREFIX}{step}"


def step_of(name: str) -> int | None:
    """The step of a checkpoint's folder name `step_N`; None: not such a name."""
    return step_number(name.removeprefix(_PREFIX)) if name.startswith(_PREFIX) else None


def step_number(text: str) -> int | None:
    """A step as folders are named by it, without sign or leading zero; None: not one."""
    return int(text) if re.fullmatch(r"0|[1-9][0-9]{0,11}", text) else None


def checkpoint_path(run_folder: Path, step: int) -> Path:
    """The folder of a run's checkpoint."""
    return run_folder / CHECKPOINTS / step_name(step)


def saved_step(run_folder: Path) -> int:
    """The step of a run's newest committed checkpoint, not yet verified; 0: there is none."""
    folders = (path for path in (run_folder / CHECKPOINTS).glob(f"{_PREFIX}*") if path.is_dir())
    return max((step_of(path.name) or 0 for path in folders), default=0)
