"""Whether a stage's folder can be written and what it reads is there; without torch.

Each function gives one line for each thing that is wrong, as `Stage.check` collects them.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from parallel.layout import Layout
from training.config import BenchmarkConfig, ConfigError, SourceConfig, TrainConfig
from training.data import benchmarks, corrections, sources
from training.errors import UserError
from training.hub import local_path


def folder_problems(folder: Path) -> Iterator[str]:
    """Whether the run folder can be made and written."""
    above = folder.absolute()
    while not os.path.lexists(above):
        above = above.parent
    if not above.is_dir():
        yield f"run folder {folder}: {above} is no folder: move it, or set another run.folder"
    elif not os.access(above, os.W_OK | os.X_OK):
        yield f"run folder {folder}: {above} cannot be written by this user"


def refuse_unwritable(folder: Path) -> None:
    """Raise where a run folder cannot be made or written.

    Raises:
        ConfigError: says why.
    """
    if problems := list(folder_problems(folder)):
        raise ConfigError("\n".join(problems))


def missing_models(inputs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Models and tokenizers, by setting, that are neither on disk nor the hub's."""
    for setting, source in inputs:
        if source:
            yield from messages(lambda source=source, setting=setting: local_path(source, setting))


def missing_questions(question_sets: Iterable[SourceConfig | BenchmarkConfig]) -> Iterator[str]:
    """Sources and benchmarks whose files are missing or damaged, or whose difficulty is unknown."""
    for entry in question_sets:
        yield from messages(lambda entry=entry: benchmarks.difficulty_of(entry.difficulty))
        if isinstance(entry, SourceConfig):
            yield from messages(lambda entry=entry: sources.refuse_damaged(entry))
        else:
            yield from messages(lambda entry=entry: benchmarks.files_of(entry))


def correction_problems(setting: str) -> Iterator[str]:
    """Whether the file that `evaluation.corrections` names is missing or not of its form."""
    yield from messages(lambda: corrections.read(setting))


def layout_problems(config: TrainConfig, num_ranks: int, prefix: str = "") -> Iterator[str]:
    """Whether ranks and sequences divide among the degrees of the layout; 0 ranks: not known."""
    if num_ranks:
        for message in messages(lambda: Layout.from_config(config, num_ranks)):
            yield f"{prefix}{message}"


def messages(find: Callable[[], object]) -> Iterator[str]:
    """The message of an error that a person can correct; nothing where there is none."""
    try:
        find()
    except (FileExistsError, UserError) as error:
        yield str(error)
