"""What `sample` and `evaluate` share: candidates made in parts, by any number of ranks."""

from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from parallel.ranks import Ranks
from training import files, manifest
from training.config import (
    BenchmarkConfig,
    ConfigError,
    EvaluateConfig,
    ExecutionConfig,
    SampleConfig,
    resolved,
)
from training.data.benchmarks import QuestionSet, question_set
from training.lifecycle import run_folder
from training.lifecycle.cancellation import Cancellation
from training.lifecycle.signals import StopSignal
from training.lifecycle.watchdog import Watchdog
from training.monitoring.progress import Progress
from training.monitoring.tracking import Tracker
from training.stages.readable import refuse_unwritable

TIMEOUT_MINUTES = 24 * 60.0
"""How long a rank that is done waits for the slowest."""


def refuse_run_folder(folder: Path, *, verb: str) -> None:
    """Raise where the run folder cannot be written, or is another verb's.

    Raises:
        ConfigError, FileExistsError: says why.
    """
    refuse_unwritable(folder)
    run_folder.refuse_others(folder, verb=verb)


def read_questions(setting: str, entry: BenchmarkConfig) -> QuestionSet:
    """The questions of a set; `setting` names it in the message where it has none.

    Raises:
        ConfigError: it gives no question.
    """
    found = question_set(entry)
    if not found.questions:
        raise ConfigError(
            f"{setting} ({entry.kind}, {entry.location}) gives no question: look at its path, "
            "split, skip_questions and num_questions"
        )
    return found


def made_from(
    section: Mapping[str, Any], inputs: Mapping[str, str], *, seed: int, execution: ExecutionConfig
) -> str:
    """A digest of all that decides which candidates a part holds.

    Args:
        section: The settings of sampling or evaluation that decide it.
        inputs: Fingerprints of models and questions.
        seed: `run.seed`.
        execution: Decides verdicts, but for the number of workers.
    """
    return files.sha256_json(
        {
            "inputs": dict(inputs),
            "settings": dict(section),
            "seed": seed,
            "execution": execution.model_dump(mode="json", exclude={"num_workers"}),
        }
    )


def is_finished(
    config: SampleConfig | EvaluateConfig, inputs: Mapping[str, str], *, looks_only: bool
) -> bool:
    """Whether the run folder holds all of this config and these inputs.

    Where it does not, and `looks_only` is false, the folder is this run's from here: `run.json`
    is written, and a manifest of another config is removed, since a folder with a manifest is a
    finished stage.
    """
    folder = config.run.folder
    if manifest.is_current(folder, config=resolved(config), inputs=inputs):
        return True
    if not looks_only:
        (folder / manifest.MANIFEST).unlink(missing_ok=True)
        files.write_json(folder / run_folder.RUN, resolved(config))
    return False


def started_tracker(
    config: SampleConfig | EvaluateConfig,
    *,
    verb: str,
    enabled: bool = True,
    alerts_only: bool = False,
) -> Tracker:
    """The run's tracker; alerts only where another job commits the stage and reports it."""
    return Tracker.start(
        config.tracking,
        folder=config.run.folder,
        name=config.run.name,
        job_type=verb,
        resolved=resolved(config),
        enabled=enabled,
        alerts_only=alerts_only,
    )


@contextmanager
def supervised(
    config: SampleConfig | EvaluateConfig, ranks: Ranks, *, verb: str, alerts_only: bool = False
) -> Generator[tuple[Cancellation, Tracker], None, None]:
    """Tracked, watched for hangs, stopped by a signal to any rank, failing on all ranks at once.

    Raises:
        Stopped: a signal came to one of the ranks.
    """
    with ExitStack() as opened:
        stop = opened.enter_context(StopSignal(ranks))
        tracker = opened.enter_context(
            started_tracker(config, verb=verb, enabled=ranks.is_main, alerts_only=alerts_only)
        )
        watch = opened.enter_context(
            Watchdog(ranks, minutes=config.run.watchdog_minutes, alert=tracker.alert)
        )
        opened.enter_context(ranks.failing_together())
        yield Cancellation(stop, watch), tracker


def progress_on_main(work: str, ranks: Ranks, *, total: int, unit: str) -> Progress:
    """Progress of the main rank's items; the label says so where other ranks have theirs."""
    label = work if ranks.world_size == 1 else f"{work} (1 of {ranks.world_size} ranks)"
    return Progress(label, total=total, unit=unit, shown=ranks.is_main)
