"""A training run as a stage: skipped when finished, refused when it is another run's folder.

`run.json` in the run folder is the resolved config of the run. What may change when it resumes
is in same_run.py; what has changed is printed. Settings that it leaves to `auto` are chosen here,
once, and `auto.json` beside it has what they became.
"""

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from parallel.layout import Layout
from parallel.planning import auto
from parallel.ranks import Ranks
from training import manifest
from training.checkpoint_paths import CHECKPOINTS, checkpoint_path, saved_step
from training.config import ConfigError, PrepareConfig, TrainConfig, resolved
from training.data import parts, prepared, remote_folder
from training.data.dataset import SequenceDataset
from training.data.held_out import refuse_shared
from training.data.matching import refuse_different, refuse_other_prompts
from training.data.prepare import prepare
from training.data.prepared import tokenizer_of
from training.errors import DataError, UserError, is_for_people
from training.evaluation import load
from training.files import read_json_object, write_json
from training.lifecycle import run_folder
from training.lifecycle.resume import refuse_checkpoint
from training.lifecycle.signals import StopSignal
from training.models.build import fingerprint, weights_folder
from training.monitoring import metrics_file
from training.stages import same_run
from training.stages.readable import refuse_unwritable
from training.trainer import Trainer

logger = logging.getLogger(__name__)


def train(config: TrainConfig, ranks: Ranks) -> None:
    """Train to the last step, resuming from the newest checkpoint that verifies.

    Raises:
        Stopped: a signal came to one of the ranks; there is a checkpoint.
        ConfigError: the data was prepared with other settings, nothing that `auto` may become fits
            the memory, the run folder cannot be written or holds another config's checkpoints, or
            a model's tokenizer is not the data's.
        FileExistsError: the run folder, or the data folder to be prepared, is somebody else's.
        ConfigError, FileNotFoundError, TrainingDiverged: see `Trainer`.
    """
    device = ranks.device(config.training.device)
    refuse_unwritable(config.run.folder / CHECKPOINTS)
    planned = auto.plan_here(config, Layout.from_config(config, ranks.world_size), ranks, device)
    ranks.connect(device, timeout_minutes=config.run.collective_minutes)
    folder = config.run.folder
    # Before data is prepared: what an existing run was trained on must not be replaced by it.
    changed = ranks.on_main(lambda: same_run.changed_settings(config))
    ranks.on_main(lambda: refuse_shared(config))
    if config.data.remote:
        _mirror(config, ranks)
    not_compared = ranks.on_main(lambda: _ensure_data(config))
    inputs = _inputs_of_all(config, ranks)
    if ranks.on_main(lambda: manifest.is_current(folder, config=resolved(config), inputs=inputs)):
        if ranks.is_main:
            logger.info(f"{folder} is finished with this config and data: nothing to do")
        return
    ranks.on_main(lambda: _check_tokenizers(config))
    choice = auto.agree(planned, ranks)
    chosen = choice.record() if choice else {}
    if ranks.is_main and not (folder / run_folder.RUN).is_file():
        write_json(folder / run_folder.RUN, resolved(config))  # before all else: the folder is ours
    with (
        StopSignal(ranks) as stop,
        Trainer(choice.applied(config) if choice else config, ranks, stop, auto=chosen) as trainer,
        # Within the trainer, whose alert then has the message of the rank that failed.
        ranks.failing_together(),
    ):
        if ranks.is_main:  # not of a run that the trainer refused
            if changed:
                logger.info(f"{folder} resumes with other settings: {'; '.join(changed)}")
            write_json(folder / run_folder.RUN, resolved(config))
            _record_auto(folder / run_folder.AUTO, chosen)
        trainer.run()
    if ranks.is_main:
        last = checkpoint_path(folder, config.training.max_steps) / manifest.MANIFEST
        manifest.commit(
            folder,
            stage="train",
            config=resolved(config),
            inputs=inputs,
            outputs=[last, folder / metrics_file.NAME],
            facts={"inputs_not_compared": not_compared},
        )


def _record_auto(path: Path, chosen: dict[str, Any]) -> None:
    """Write what `auto` became, and log where it differs from the attempt before."""
    if not chosen:
        path.unlink(missing_ok=True)
        return
    if path.is_file():
        before = read_json_object(path).get("became", {})
        if changed := manifest.changes(before, chosen["became"]):
            logger.info(f"auto differs from the attempt before: {'; '.join(changed.values())}")
    write_json(path, chosen)


def status(config: TrainConfig) -> manifest.Status:
    """What `train` would do now; nothing is written, and no checkpoint is verified.

    Raises:
        ConfigError, FileNotFoundError, FileExistsError: as `train`.
    """
    folder, last = config.run.folder, config.training.max_steps
    refuse_unwritable(config.run.folder / CHECKPOINTS)
    changed = same_run.changed_settings(config)
    data = prepared.compare(_of_data(config))
    first = ""
    if data.is_current and not config.data.remote:
        SequenceDataset(config.data.folder, sequence_length=config.data.sequence_length)
        _check_tokenizers(config, fetches=False)
    elif config.data.prepare_if_missing:
        parts.refuse_data(config.data.folder)
        first = "prepares its data again, then " if data.is_prepared else "prepares its data, then "
    source = config.model.initial_weights
    # A model of the hub would have to be fetched to be compared.
    here = not source or Path(weights_folder(source)).is_dir()
    # The copy of remote data may not be there yet, or no longer.
    here = here and (config.data.folder / manifest.MANIFEST).is_file()
    if data.is_current and here and (folder / manifest.MANIFEST).is_file():
        if manifest.is_current(folder, config=resolved(config), inputs=_inputs(config)):
            return manifest.Status(f"has nothing to do: all {last:,} steps are done", True)
    if step := saved_step(folder):
        refuse_checkpoint(config, checkpoint_path(folder, step))
        said = f", with other settings: {'; '.join(changed)}" if changed else ""
        return manifest.Status(f"{first}resumes from step {step:,} of {last:,}{said}")
    return manifest.Status(f"{first}starts, from {source or 'random weights'}")


def _of_data(config: TrainConfig) -> PrepareConfig:
    """What `prepare` would be asked for."""
    return PrepareConfig(data=config.data, execution=config.execution)


def _inputs(config: TrainConfig) -> dict[str, str]:
    """Fingerprints of all that a run reads."""
    inputs = {"data": manifest.fingerprint(config.data.folder)}
    if config.model.initial_weights:
        inputs["initial_weights"] = fingerprint(config.model.initial_weights)
    return inputs


def _inputs_of_all(config: TrainConfig, ranks: Ranks) -> dict[str, str]:
    """The same as `_inputs`, once the first rank of each node has found the same.

    Raises:
        ConfigError, OSError: on all ranks, where one lacks a file or has another one: its folder
            may be on the disk of its node.
    """
    found: dict[str, str] | Exception | None
    try:
        found = _inputs(config) if ranks.local_rank == 0 else None
    except Exception as error:
        if not is_for_people(error):
            raise
        found = error
    all_found = {rank: found for rank, found in enumerate(ranks.gather(found)) if found is not None}
    for rank, error in all_found.items():
        if not isinstance(error, Exception):
            continue
        if rank == 0:
            raise error
        raise ConfigError(f"rank {rank}: {error}") from error  # the first rank's files are there
    for rank, other in all_found.items():
        if other != all_found[0]:
            differing = [key for key in other if other[key] != all_found[0].get(key)]
            raise ConfigError(
                f"rank {rank} reads other files than rank 0 for {', '.join(differing)}: "
                f"data.folder = {config.data.folder} and model.initial_weights = "
                f"{config.model.initial_weights!r} must be the same on all nodes"
            )
    return all_found[0]


def _mirror(config: TrainConfig, ranks: Ranks) -> None:
    """Copy manifest and tokenizer of remote data to each node, by one rank of each.

    Raises:
        DataError: on all ranks, where one cannot; see `remote_folder.mirror`.
    """
    problem = ""
    if ranks.local_rank == 0:
        try:
            remote_folder.mirror(config.data.remote, config.data.folder)
        except Exception as error:
            if not is_for_people(error):
                raise
            problem = str(error)
    for rank, found in enumerate(ranks.gather(problem)):
        if found:
            raise DataError(f"rank {rank}: {found}" if rank else found)


def _ensure_data(config: TrainConfig) -> list[str]:
    """Prepared data as this config describes it: found, made where allowed, or refused.

    Returns:
        The inputs of the data that are not on this machine, so that only their settings are
        known to be this config's.

    Raises:
        FileNotFoundError, ConfigError: it is not there, or was prepared from something else,
            and `data.prepare_if_missing` is false; or as `prepare`.
        FileExistsError: as `prepare`.
    """
    wanted = _of_data(config)
    found = prepared.compare(wanted)
    if found.is_current:
        if note := found.note():
            logger.info(note)
        return found.not_compared
    if not config.data.prepare_if_missing:
        found.check()
    if found.is_prepared:
        differing = "\n  ".join(found.differences)
        logger.info(f"{found.folder} is prepared again, since\n  {differing}")
    prepare(wanted)
    return []


def _check_tokenizers(config: TrainConfig, *, fetches: bool = True) -> None:
    """Whether all models that meet the data have its tokenizer, and the trained one its prompts.

    Args:
        config: The run's.
        fetches: Whether a tokenizer may be fetched from the hub; else the hub's models are
            left out.

    Raises:
        ConfigError: a tokenizer differs, or has more ids than the model has embeddings.
        DataError: a tokenizer differs, or the weights were trained on other prompts.
    """
    started_from = {"model.initial_weights": config.model.initial_weights}
    if step := saved_step(config.run.folder):
        checkpoint = checkpoint_path(config.run.folder, step)
        # A damaged one is left out: the run resumes from an earlier one, or reports it.
        with suppress(UserError):
            load.tokenizer_of(str(checkpoint))
            started_from = {"the checkpoint": str(checkpoint)}
    names = dict(started_from)
    if config.evaluation.every_steps:
        names["evaluation.generator"] = config.evaluation.generator
        names["evaluation.verifier"] = config.evaluation.verifier
    of_data = tokenizer_of(config)
    tokenizers = {f"data.folder = {config.data.folder}": of_data}
    for setting, source in names.items():
        if not source or not (fetches or Path(weights_folder(source)).is_dir()):
            continue
        tokenizer = load.tokenizer_of(source)
        if tokenizer is not None:
            tokenizers[f"{setting} = {source}"] = tokenizer
        elif fetches:
            logger.warning(
                f"{setting} = {source} has no tokenizer: it is not known whether it reads the "
                "same ids as the data"
            )
    refuse_different(tokenizers)
    trained = [f"{setting} = {source}" for setting, source in started_from.items()]
    refuse_other_prompts(
        of_data, {name: tokenizers[name] for name in trained if name in tokenizers}
    )
