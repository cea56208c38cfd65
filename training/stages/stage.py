"""What every stage is: one verb on one config.

    stage = TrainStage(config)
    stage.check(num_ranks=32)       # raises ConfigError with all that is wrong
    stage.status()                  # what `run` would do with the folder as it is now
    stage.describe(num_ranks=32)    # the same for people, with layout, work and memory
    stage.run(ranks)

Importing a stage and checking it needs no torch: both run on a login node in seconds. The
libraries that a stage works with are imported by `status`, `describe` and `run`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel

from parallel.ranks import Ranks
from parallel.workers.array import ONLY_TASK, ArrayTask
from training.config import BenchmarkConfig, ConfigError, SourceConfig
from training.data import held_out
from training.manifest import Status
from training.stages import readable
from training.stages.model_size import ModelSize

ConfigType = TypeVar("ConfigType", bound=BaseModel)


class Stage(ABC, Generic[ConfigType]):
    """One verb on one config.

    Args:
        config: A config of `config_class`.
    """

    verb: ClassVar[str]
    """Its name: `launch/VERB.py`, `slurm/VERB.sh`."""
    config_class: ClassVar[type[BaseModel]]
    runs_on_ranks: ClassVar[bool] = True
    """Whether every rank that a launcher started runs it; else one process with workers does."""

    def __init__(self, config: ConfigType) -> None:
        self.config = config

    @property
    @abstractmethod
    def folder(self) -> Path:
        """The run folder: where its jobs leave their logs."""

    @property
    def parts_folder(self) -> Path:
        """Where an attempt leaves what the next one resumes from."""
        return self.folder

    @abstractmethod
    def inputs(self) -> Iterator[tuple[str, str]]:
        """Settings that name models or tokenizers, with their values; empty ones are unset."""

    @abstractmethod
    def question_sets(self) -> Iterator[SourceConfig | BenchmarkConfig]:
        """Training sources and benchmarks that it reads."""

    def refuse_folder(self) -> None:
        """Raise where the run folder belongs to another verb, or to somebody else.

        Raises:
            FileExistsError, ConfigError: says whose it is.
        """

    def problems(self, num_ranks: int) -> Iterator[str]:
        """What is wrong beyond folders, inputs and questions: layout, data. One line for each."""
        return iter(())

    def notes(self) -> list[str]:
        """What could not be checked on this machine, one line for each."""
        return []

    def check(self, *, num_ranks: int) -> list[str]:
        """Check that the stage can start with what is there now.

        Args:
            num_ranks: Processes it will run as; 0: not known yet.

        Returns:
            The notes.

        Raises:
            ConfigError: one line for each thing that is wrong.
        """
        problems = [
            *readable.folder_problems(self.folder),
            *readable.messages(self.refuse_folder),
            *self.problems(num_ranks),
            *readable.missing_models(self.inputs()),
            *readable.missing_questions(self.question_sets()),
        ]
        if not problems:  # the files are there whose questions are compared
            problems += held_out.shared(self.config)  # pyright: ignore[reportArgumentType]
        if problems:
            raise ConfigError("\n".join(problems))
        return self.notes()

    @abstractmethod
    def status(self) -> Status:
        """What `run` would do with the folder as it is now; nothing is written or fetched.

        Raises:
            ConfigError, FileNotFoundError, FileExistsError: as `run`.
        """

    def status_before_inputs(self) -> Status:
        """The status of a stage that reads what an earlier one has yet to make."""
        return Status("runs after it")

    @abstractmethod
    def facts(self, num_ranks: int, models: Sequence[ModelSize] | None = None) -> Iterator[str]:
        """Its work, layout and memory, one line for each.

        Args:
            num_ranks: Processes it will run as.
            models: Sizes of the models it samples with or scores by; None: those on disk.
        """

    def describe(self, num_ranks: int) -> Iterator[str]:
        """Lines for people: what `run` would do, the notes, and the facts."""
        yield f"{self.verb} {self.status().message}"
        yield from self.notes()
        yield from (f"  {line}" for line in self.facts(num_ranks))

    @abstractmethod
    def run(self, ranks: Ranks, array_task: ArrayTask = ONLY_TASK) -> Any:
        """Do what is not done yet.

        Args:
            ranks: This rank among those that the launcher started.
            array_task: The parts to make, where several jobs make one stage's.

        Raises:
            Stopped: a signal came to one of the ranks; what was whole is saved.
            ConfigError, FileNotFoundError, FileExistsError: it cannot run as configured.
        """
