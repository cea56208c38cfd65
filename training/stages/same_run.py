"""Whether a training run may resume with a config; needs no torch, for launch/check.py.

A run may train longer, save or evaluate at other steps, and be tracked elsewhere. A setting that
decides the numbers may not change under checkpoints that exist, but for the learning rate, which
may be lowered: that is how a run that has diverged is resumed.
"""

from typing import Any

from training import manifest
from training.checkpoint_paths import checkpoint_path, saved_step
from training.config import ConfigError, TrainConfig, resolved
from training.config.load import checked
from training.config.renamed import old_keys
from training.files import read_json_object
from training.lifecycle import run_folder

_MAY_CHANGE = (
    "run.folder",
    "run.name",
    "run.resume",
    "run.watchdog_minutes",
    "data.folder",
    "data.remote",
    "data.num_workers",
    "data.prepare_if_missing",
    "training.max_steps",
    "training.micro_batch_sequences",
    "training.compile",
    "checkpoint.every_steps",
    "checkpoint.keep_latest",
    "checkpoint.keep_steps",
    "training.log_every_steps",
    "training.device",
    "model.activation_checkpointing",
    "model.initial_weights",
    "parallel",
    "evaluation",
    "execution",
    "tracking",
)
_MAY_BE_LOWERED = ("optimizer.learning_rate",)
"""While steps are left: it is what a run that has diverged can be resumed with."""
_NOTES = {
    "training.max_steps": "the learning rate follows it from here",
    "model.initial_weights": "not read: the weights are the checkpoint's",
}


def changed_settings(config: TrainConfig) -> list[str]:
    """Compare the config with that of the checkpoints that are there.

    Returns:
        One line per setting that is another one and may be.

    Raises:
        ConfigError: a setting that decides the numbers is another one.
        FileExistsError: the folder is not a training run's.
    """
    folder = config.run.folder
    run_folder.refuse_others(folder, verb="train")
    if not (step := saved_step(folder)):
        return []
    before, now = read_json_object(folder / run_folder.RUN), resolved(config)
    if old := [*old_keys(before)]:
        raise ConfigError(
            f"{folder} holds checkpoints of a run that an earlier version of this code started, "
            "which cannot be resumed:\n  "
            + "\n  ".join(old)
            + "\nfinish it with that version, start from its weights (model.initial_weights = "
            f"{checkpoint_path(folder, step)}) in another run.folder, or train anew in one"
        )
    before = _with_defaults(before)
    steps_are_left = step < config.training.max_steps
    allowed: list[str] = []
    refused: list[str] = []
    for key, line in manifest.changes(before, now).items():
        if any(key == name or key.startswith(name + ".") for name in _MAY_CHANGE):
            allowed.append(line + (f" ({_NOTES[key]})" if key in _NOTES else ""))
        elif key in _MAY_BE_LOWERED and steps_are_left and _is_lower(before, now, key):
            allowed.append(line)
        elif key in _MAY_BE_LOWERED:
            refused.append(f"{line} (it may be lowered, while steps are left)")
        else:
            refused.append(line)
    if refused:
        raise ConfigError(
            f"{folder} holds checkpoints of another config:\n  "
            + "\n  ".join(refused)
            + "\nset these back, or set another run.folder"
        )
    return allowed


def _with_defaults(before: dict[str, Any]) -> dict[str, Any]:
    """A stored config with the settings that were added since, which are off by default."""
    try:
        return resolved(checked(TrainConfig, before))
    except ConfigError:  # damaged, or of settings that have gone: compared as it is
        return before


def _is_lower(before: Any, now: Any, key: str) -> bool:
    """Whether a number of a config is now lower; a damaged `run.json` holds none."""
    for name in key.split("."):
        before = before.get(name) if isinstance(before, dict) else None
        now = now[name]
    return isinstance(before, float) and now < before
