"""A training run as a stage: skipped when finished, refused when it is another run's folder.

`run.json` in the run folder is the resolved config of the run's first life. A later life
may train longer, save or evaluate at other steps, and be tracked elsewhere; a setting that
decides the numbers may not change under checkpoints that exist, but for the learning rate,
which may be lowered: that is how a run that has diverged is resumed. What has changed is said.
"""

from pathlib import Path
from typing import Any

from parallel.ranks import Ranks
from training import manifest
from training.check import refuse_folder
from training.config import ConfigError, PrepareConfig, TrainConfig, resolved
from training.data.held_out import refuse_shared
from training.data.loader import RowDataset
from training.data.prepare import prepare
from training.files import read_json_object, write_json
from training.lives import saved_step
from training.loop import CHECKPOINTS, Trainer, refuse, tokenizer_of
from training.models.build import fingerprint, weights_folder
from training.signals import StopSignal

RUN = "run.json"
_MAY_CHANGE = (
    "run.folder",
    "run.name",
    "run.resume",
    "run.hang_minutes",
    "data.folder",
    "data.num_workers",
    "data.prepare_if_missing",
    "training.max_steps",
    "training.micro_batch_rows",
    "training.checkpoint_every_steps",
    "training.keep_checkpoints",
    "training.keep_steps",
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


def train(config: TrainConfig, ranks: Ranks) -> None:
    """Train to the last step, going on from the newest checkpoint that verifies.

    Raises:
        Stopped: a signal came to one of the ranks; there is a checkpoint.
        ConfigError, FileNotFoundError, LossNotFinite: see `Trainer`; ConfigError as well where
            the run folder cannot be written or is another run's.
    """
    device = ranks.device(config.training.device)
    refuse_folder(config.run.folder / CHECKPOINTS)
    ranks.connect(device)
    if ranks.is_first:
        refuse_shared(config)
    _ensure_data(config, ranks)
    inputs = _inputs(config)
    folder = config.run.folder
    if all(ranks.gather(manifest.is_current(folder, config=resolved(config), inputs=inputs))):
        if ranks.is_first:
            print(f"{folder} is finished with this config and data: nothing to do", flush=True)
        return
    changed = _check_same_run(config)
    ranks.barrier()
    with (
        StopSignal(ranks) as stop,
        Trainer(config, ranks, stop) as trainer,
        # Within the trainer, whose alert then has the message of the rank that failed.
        ranks.failing_together(),
    ):
        if ranks.is_first:  # not of a run that the trainer refused
            if changed:
                print(f"{folder} resumes with other settings: {'; '.join(changed)}", flush=True)
            write_json(folder / RUN, resolved(config))
        trainer.run()
    if ranks.is_first:
        last = folder / CHECKPOINTS / f"step_{config.training.max_steps}" / manifest.MANIFEST
        manifest.commit(
            folder,
            stage="train",
            config=resolved(config),
            inputs=inputs,
            outputs=[last, folder / "metrics.jsonl"],
        )


def standing(config: TrainConfig) -> manifest.Standing:
    """What `train` would do now; nothing is written, and no checkpoint is verified.

    Raises:
        ConfigError, FileNotFoundError, FileExistsError: as `train`.
    """
    folder, last = config.run.folder, config.training.max_steps
    refuse_folder(config.run.folder / CHECKPOINTS)
    prepared = (config.data.folder / manifest.MANIFEST).is_file()
    if prepared:
        RowDataset(config.data.folder, row_tokens=config.data.row_tokens)
        tokenizer_of(config)
    source = config.model.initial_weights
    # A model of the hub would have to be fetched to be compared.
    here = not source or Path(weights_folder(source)).is_dir()
    if prepared and here and (folder / manifest.MANIFEST).is_file():
        if manifest.is_current(folder, config=resolved(config), inputs=_inputs(config)):
            return manifest.Standing(f"has nothing to do: all {last:,} steps are done", True)
    changed = _check_same_run(config)
    if step := saved_step(folder):
        refuse(config, folder / CHECKPOINTS / f"step_{step}")
        said = f", with other settings: {'; '.join(changed)}" if changed else ""
        return manifest.Standing(f"goes on from step {step:,} of {last:,}{said}")
    first = "" if prepared else "prepares its data, then "
    return manifest.Standing(f"{first}starts, from {source or 'random weights'}")


def _inputs(config: TrainConfig) -> dict[str, str]:
    """Fingerprints of all that a run reads."""
    inputs = {"data": manifest.fingerprint(config.data.folder)}
    if config.model.initial_weights:
        inputs["initial_weights"] = fingerprint(config.model.initial_weights)
    return inputs


def _ensure_data(config: TrainConfig, ranks: Ranks) -> None:
    """Prepare small data on the spot where the config allows it; else it must be there."""
    missing = not (config.data.folder / manifest.MANIFEST).is_file()
    if any(ranks.gather(missing)):
        if not config.data.prepare_if_missing:
            raise FileNotFoundError(
                f"data.folder = {config.data.folder} holds no prepared data: run "
                "`python launch/prepare.py CONFIG` with this config first, or set "
                "data.prepare_if_missing = true for small data"
            )
        if ranks.is_first:
            prepare(PrepareConfig(data=config.data, execution=config.execution))
        ranks.barrier()


def _check_same_run(config: TrainConfig) -> list[str]:
    """Compare the config with that of the checkpoints that are there.

    Returns:
        One line per setting that is another one and may be.

    Raises:
        ConfigError: a setting that decides the numbers is another one.
    """
    path = config.run.folder / RUN
    if not path.is_file() or not any((config.run.folder / CHECKPOINTS).glob("step_*")):
        return []
    before, now = _flat(_saved_config(path)), _flat(resolved(config))
    steps_are_left = saved_step(config.run.folder) < config.training.max_steps
    allowed: list[str] = []
    refused: list[str] = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        line = f"{key} was {old!r}, is {new!r}"
        if any(key == name or key.startswith(name + ".") for name in _MAY_CHANGE):
            allowed.append(line + (f" ({_NOTES[key]})" if key in _NOTES else ""))
        elif key in _MAY_BE_LOWERED and steps_are_left and _is_lower(new, old):
            allowed.append(line)
        elif key in _MAY_BE_LOWERED:
            refused.append(f"{line} (it may be lowered, while steps are left)")
        else:
            refused.append(line)
    if refused:
        raise ConfigError(
            f"{config.run.folder} holds checkpoints of another config:\n  "
            + "\n  ".join(refused)
            + "\nset these back, or set another run.folder"
        )
    return allowed


def _is_lower(new: Any, old: Any) -> bool:
    return isinstance(new, float) and isinstance(old, float) and new < old


def _saved_config(path: Path) -> dict[str, Any]:
    try:
        return read_json_object(path)
    except ConfigError as error:
        raise ConfigError(
            f"{error}. It says which config the checkpoints beside it are of: restore it, set "
            "another run.folder, or, where they are of this config, remove it"
        ) from error


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
