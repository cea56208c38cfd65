"""What can be told of a stage before it starts: on a login node, in seconds, without torch.

    check(verb, config, num_ranks=32)       raises ConfigError with all that is wrong

Looks at what the config alone does not tell: whether the files it names are there, whether
evaluated questions are among those that are learnt from (data/held_out.py), and whether its
layout fits the ranks.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from parallel.layout import Layout
from training.config import (
    BenchmarkConfig,
    ConfigError,
    DataConfig,
    EvaluateConfig,
    PrepareConfig,
    RecipeConfig,
    SampleConfig,
    TrainConfig,
    checked,
    resolved,
)
from training.data import benchmarks, held_out, parts, prepared, sources
from training.data.hub import local_path
from training.files import write_json
from training.lifecycle import attempts, run_folder
from training.stages import same_run
from training.stages.recipe import Stage, lost_checkpoints, stages

KINDS: dict[str, type[BaseModel]] = {
    "prepare": TrainConfig,
    "train": TrainConfig,
    "sample": SampleConfig,
    "evaluate": EvaluateConfig,
    "recipe": RecipeConfig,
}
"""The config of each verb that a job can run."""


def folder_of(verb: str, config: Any) -> Path:
    """Where the verb's jobs leave their logs: the run folder.

    Preparing replaces its folder as a whole, so its jobs have one beside it.
    """
    return attempts.jobs_folder(config.data.folder) if verb == "prepare" else config.run.folder


def parts_folder(verb: str, config: Any) -> Path:
    """Where a life of the verb leaves what the next one goes on from."""
    if verb == "prepare":
        return attempts.parts_folder(config.data.folder)
    return folder_of(verb, config)


def check(verb: str, config: Any, *, num_ranks: int) -> list[str]:
    """Check that a stage can start with what is there now.

    Args:
        verb: One of `KINDS`.
        config: Its config.
        num_ranks: Processes it will run as; 0: not known yet.

    Returns:
        One line for each thing that could not be checked on this machine.

    Raises:
        ConfigError: one line for each thing that is wrong.
    """
    problems = [*folder_problems(folder_of(verb, config))]
    problems += _said(lambda: _refuse_others(verb, config))
    found: prepared.Comparison | None = None
    if verb in ("prepare", "train"):
        wanted = PrepareConfig(data=config.data, execution=config.execution)
        try:
            found = prepared.compare(wanted)
        except ConfigError as error:
            problems.append(str(error))
    if verb == "recipe":
        problems += lost_checkpoints(config)
        problems += _layout_problems(config.generator, num_ranks, "generator: ")
        problems += _layout_problems(config.verifier, num_ranks, "verifier: ")
    if verb == "train":
        problems += _layout_problems(config, num_ranks)
    problems += _missing(_inputs(verb, config))
    is_to_prepare = found is not None and not found.is_current
    problems += _missing_questions(verb, config, is_to_prepare)
    if verb == "train" and found and is_to_prepare and not config.data.prepare_if_missing:
        problems.append(found.refusal())
    elif found and is_to_prepare:
        problems += _said(lambda: parts.refuse_data(config.data.folder))
    if not problems:  # the files are there whose questions are compared
        problems += held_out.shared(config)
    if problems:
        raise ConfigError("\n".join(problems))
    return [found.note()] if verb == "train" and found and found.is_current and found.note() else []


def checked_stages(recipe: RecipeConfig) -> list[Stage]:
    """A recipe's stages in order, whose configs are valid.

    Raises:
        ConfigError: the config of a stage is wrong.
    """
    planned = stages(recipe)
    for stage in planned:
        try:
            checked(KINDS[stage.verb], stage.config)
        except ConfigError as error:
            raise ConfigError(f"stage {stage.name}: {error}") from None
    return planned


def write_stages(recipe: RecipeConfig, planned: Iterable[Stage]) -> None:
    """Write every stage's config into the recipe's folder, as `STAGE.json`."""
    folder = recipe.run.folder
    write_json(folder / run_folder.CONFIG, resolved(recipe))
    for stage in planned:
        write_json(folder / f"{stage.name}.json", stage.config)


def _inputs(verb: str, config: Any) -> Iterator[tuple[str, str]]:
    """Settings that name models, with their values; in a recipe all of them are made by it."""
    if verb == "prepare" and config.data.tokenizer.source != "train":
        yield "data.tokenizer.source", config.data.tokenizer.source
    if verb == "train":
        yield "model.initial_weights", config.model.initial_weights
        if config.model.head == "verifier" and config.evaluation.every_steps:
            yield "evaluation.generator", config.evaluation.generator
    elif verb == "sample":
        for number, source in enumerate(config.sampling.checkpoints):
            yield f"sampling.checkpoints.{number}", source
    elif verb == "evaluate":
        yield "evaluation.generator", config.evaluation.generator
        yield "evaluation.verifier", config.evaluation.verifier


def _refuse_others(verb: str, config: Any) -> None:
    """Refuse a run folder that is somebody else's, or another config's."""
    if verb == "recipe":
        run_folder.refuse_other_recipes(config.run.folder, [stage.name for stage in stages(config)])
        for training in (config.generator, config.verifier):
            same_run.changed_settings(training)
    elif verb == "train":
        same_run.changed_settings(config)
    elif verb != "prepare":
        run_folder.refuse_others(config.run.folder, verb=verb)


def _missing(inputs: Iterable[tuple[str, str]]) -> Iterator[str]:
    for setting, source in inputs:
        if source:
            yield from _said(lambda source=source, setting=setting: local_path(source, setting))


def _missing_questions(verb: str, config: Any, is_to_prepare: bool) -> Iterator[str]:
    """Problems and questions that are read from files which are not there.

    A recipe's verifier is left out: its sources are the candidates.
    """
    data: list[DataConfig] = []
    asked: list[BenchmarkConfig] = []
    trained = [config] if verb == "train" else []
    if verb == "recipe":
        data, trained = [config.generator.data], [config.generator, config.verifier]
    # Where train does not prepare, the prepared data alone are missed.
    elif verb == "prepare" or (
        verb == "train" and config.data.prepare_if_missing and is_to_prepare
    ):
        data = [config.data]
    if verb in ("sample", "recipe"):
        asked.append(config.sampling.questions)
    if verb in ("evaluate", "recipe"):
        asked += config.evaluation.benchmarks
    for run in trained:
        asked += run.evaluation.benchmarks if run.evaluation.every_steps else ()
    for section in data:
        asked += section.decontaminate
        for source in section.sources:
            yield from _said(lambda source=source: sources.files_of(source))
            yield from _said(lambda source=source: benchmarks.difficulty_of(source.difficulty))
    for benchmark in asked:
        yield from _said(lambda benchmark=benchmark: benchmarks.difficulty_of(benchmark.difficulty))
        yield from _said(lambda benchmark=benchmark: benchmarks.files_of(benchmark))


def _said(find: Callable[[], object]) -> Iterator[str]:
    try:
        find()
    except (FileExistsError, ValueError) as error:
        yield str(error)


def _layout_problems(config: TrainConfig, num_ranks: int, prefix: str = "") -> Iterator[str]:
    """Whether ranks and rows divide among the degrees of the layout."""
    if num_ranks:
        try:
            Layout.from_config(config, num_ranks)
        except ConfigError as error:
            yield f"{prefix}{error}"


def folder_problems(folder: Path) -> Iterator[str]:
    """Whether the run folder can be made and written."""
    above = folder.absolute()
    while not os.path.lexists(above):
        above = above.parent
    if not above.is_dir():
        yield f"run folder {folder}: {above} is no folder: move it, or set another run.folder"
    elif not os.access(above, os.W_OK | os.X_OK):
        yield f"run folder {folder}: {above} cannot be written by this user"


def refuse_folder(folder: Path) -> None:
    """Stop where a run folder cannot be made or written.

    Raises:
        ConfigError: says why.
    """
    if problems := list(folder_problems(folder)):
        raise ConfigError("\n".join(problems))
