"""The sections on a run as such: its folder and name, the limits of programs, tracking."""

from typing import Literal

from pydantic import Field

from training.config.values import (
    LARGEST_COUNT,
    MOST_WORKERS,
    Folder,
    Many,
    Section,
)

COLLECTIVE_MINUTES = 30.0
"""After which a collective fails, unless the watchdog needs longer to report."""


class RunConfig(Section):
    """The folder, the name and the seed of a run."""

    folder: Folder
    """Folder of the run: config, checkpoints, metrics and logs. Created if it does not exist."""
    name: str = Field(default="run", min_length=1)
    """Name of the run in logs and in W&B."""
    seed: int = Field(default=1, ge=0, lt=2**31)
    """Seed of the initial weights, the order of the sequences, dropout and sampling."""
    resume: Literal["auto", "never"] = "auto"
    """`auto`: resume from the newest checkpoint that passes verification; `never`: end with an
    error if the folder already holds checkpoints."""
    watchdog_minutes: float = Field(default=20.0, ge=0.0, le=720.0)
    """Minutes that an active rank may make no progress (no step, batch or checkpoint file). Then it
    writes its stacks to its log and an alert is sent. 0 turns the watchdog off. Collectives of
    training ranks time out after 1.5 times as long, but not before 30 minutes."""

    @property
    def collective_minutes(self) -> float:
        """After which a collective of training ranks fails: the watchdog has reported before."""
        return max(COLLECTIVE_MINUTES, 1.5 * self.watchdog_minutes)


class ExecutionConfig(Section):
    """Limits of a program that a model wrote."""

    timeout_seconds: float = Field(default=0.5, ge=1e-3, le=60.0)
    """CPU time of one program, in seconds."""
    memory_mib: int = Field(default=256, ge=64, le=2**24)
    """Memory of one program, in MiB."""
    max_output_bytes: int = Field(default=65536, ge=1024, le=2**30)
    """Output of one program, in bytes."""
    num_workers: int = Field(default=1, ge=1, le=MOST_WORKERS)
    """Processes per rank that execute programs."""


class TrackingConfig(Section):
    """Weights & Biases. `metrics.jsonl` holds the same numbers."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """`auto`: online if an API key is in the environment, else offline; the log says which."""
    project: str = "tinygsm"
    """W&B project."""
    entity: str = ""
    """W&B user or team; empty: the default of the API key."""
    group: str = ""
    """W&B group; empty: the run's name. A recipe puts all its stages into one group."""
    tags: Many[str] = ()
    """W&B tags of the run."""
    num_table_rows: int = Field(default=32, ge=0, le=LARGEST_COUNT)
    """Rows of the W&B table with samples of an evaluation."""
