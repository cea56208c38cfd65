"""The sample stage: executed, labelled candidates of several checkpoints."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from parallel.ranks import Ranks
from parallel.workers.array import ONLY_TASK, ArrayTask
from training.config import BenchmarkConfig, SampleConfig, SourceConfig
from training.lifecycle import run_folder
from training.manifest import Status
from training.stages.candidates import counted, status_of_hub
from training.stages.model_size import ModelSize, replica_memory, saved_models
from training.stages.stage import Stage


class SampleStage(Stage[SampleConfig]):
    """Draw, run and label; every rank takes some of the questions."""

    verb = "sample"
    config_class = SampleConfig

    @property
    def folder(self) -> Path:
        """`run.folder`."""
        return self.config.run.folder

    def inputs(self) -> Iterator[tuple[str, str]]:
        """The generator's checkpoints."""
        for number, source in enumerate(self.config.sampling.checkpoints):
            yield f"sampling.checkpoints.{number}", source

    def question_sets(self) -> Iterator[SourceConfig | BenchmarkConfig]:
        """The questions that are sampled."""
        yield self.config.sampling.questions

    def refuse_folder(self) -> None:
        """Refuse a folder that is not a sample run's."""
        run_folder.refuse_others(self.folder, verb=self.verb)

    def status(self) -> Status:
        """How many parts are left."""
        sampling = self.config.sampling
        if status := status_of_hub(sampling.checkpoints, [sampling.questions]):
            return status
        from training.stages.runs import sample

        return sample.status(self.config)

    def facts(self, num_ranks: int, models: Sequence[ModelSize] | None = None) -> Iterator[str]:
        """Candidates, parts and memory."""
        sampling = self.config.sampling
        if models is None:
            models = saved_models((source, "language_model") for source in sampling.checkpoints)
        yield from counted(
            sampling,
            [sampling.questions],
            num_generators=len(sampling.checkpoints),
            num_greedy=0,
        )
        yield replica_memory(sampling, models)

    def run(self, ranks: Ranks, array_task: ArrayTask = ONLY_TASK) -> None:
        """Make the missing candidates of this array task."""
        from training.stages.runs.sample import sample

        sample(self.config, ranks, array_task)
