"""The prepare stage: the `data` section of a training config becomes token shards."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from parallel.ranks import ALONE, Ranks
from parallel.workers.array import ONLY_TASK, ArrayTask
from parallel.workers.pool import worker_pool
from training.config import BenchmarkConfig, SourceConfig, TrainConfig
from training.data import held_out
from training.lifecycle import attempts
from training.manifest import Status
from training.stages.model_size import ModelSize
from training.stages.prepared_data import PreparedData
from training.stages.stage import Stage


class PrepareStage(Stage[TrainConfig]):
    """Filter, run, decontaminate, tokenise and pack; on workers of one machine or of MPI."""

    verb = "prepare"
    config_class = TrainConfig
    runs_on_ranks = False

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        self._data = PreparedData(config)

    @property
    def folder(self) -> Path:
        """Beside `data.folder`, which is replaced as a whole."""
        return attempts.jobs_folder(self.config.data.folder)

    @property
    def parts_folder(self) -> Path:
        """Where parts are kept until `data.folder` is finished."""
        return attempts.parts_folder(self.config.data.folder)

    def inputs(self) -> Iterator[tuple[str, str]]:
        """The tokenizer, unless one is trained."""
        if self.config.data.tokenizer.source != "train":
            yield "data.tokenizer.source", self.config.data.tokenizer.source

    def question_sets(self) -> Iterator[SourceConfig | BenchmarkConfig]:
        """Sources, and benchmarks that the data is decontaminated against."""
        yield from self.config.data.decontaminate
        yield from self.config.data.sources

    def problems(self, num_ranks: int) -> Iterator[str]:
        """Whether what lies in `data.folder` may be replaced."""
        yield from self._data.problems(may_prepare=True)

    def status(self) -> Status:
        """Whether the folder is current, and else what is made anew."""
        from training.data import prepare

        return prepare.status(self._data.wanted)

    def facts(self, num_ranks: int, models: Sequence[ModelSize] | None = None) -> Iterator[str]:
        """The sources."""
        for source in self.config.data.sources:
            count = f"the first {source.num_examples:,}" if source.num_examples else "all"
            yield f"source: {source.kind} {source.path or f'of seed {source.seed}'}, {count}"

    def run(self, ranks: Ranks, array_task: ArrayTask = ONLY_TASK) -> None:
        """Prepare; under MPI the first rank leads and the others are its workers."""
        # Every worker process imports this module again.
        from training.data.prepare import prepare_array_task
        from training.lifecycle.signals import StopSignal

        with worker_pool(self.config.data.num_workers) as pool:
            if pool is None:
                return
            held_out.refuse_shared(self.config)
            with StopSignal(ALONE) as stop:  # the first rank answers for all
                prepare_array_task(self._data.wanted, array_task, pool, stop=stop)
