"""The evaluate stage: pass@1, pass@k, majority@k and verify@k of any saved pair."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from parallel.ranks import Ranks
from parallel.workers.array import ONLY_TASK, ArrayTask
from training.config import BenchmarkConfig, EvaluateConfig, SourceConfig
from training.lifecycle import run_folder
from training.manifest import Status
from training.stages import readable
from training.stages.candidates import counted, status_of_hub
from training.stages.model_size import ModelSize, replica_memory, saved_models
from training.stages.stage import Stage


class EvaluateStage(Stage[EvaluateConfig]):
    """Draw candidates, score and measure them; every rank takes some of the questions."""

    verb = "evaluate"
    config_class = EvaluateConfig

    @property
    def folder(self) -> Path:
        """`run.folder`."""
        return self.config.run.folder

    def inputs(self) -> Iterator[tuple[str, str]]:
        """The pair."""
        yield "evaluation.generator", self.config.evaluation.generator
        yield "evaluation.verifier", self.config.evaluation.verifier

    def question_sets(self) -> Iterator[SourceConfig | BenchmarkConfig]:
        """The benchmarks."""
        yield from self.config.evaluation.benchmarks

    def refuse_folder(self) -> None:
        """Refuse a folder that is not an evaluation's."""
        run_folder.refuse_others(self.folder, verb=self.verb)

    def problems(self, num_ranks: int) -> Iterator[str]:
        """The file of corrected golds."""
        yield from readable.correction_problems(self.config.evaluation.corrections)

    def status(self) -> Status:
        """How many parts are to be drawn and scored."""
        section = self.config.evaluation
        if status := status_of_hub([section.generator, section.verifier], section.benchmarks):
            return status
        from training.stages.runs import evaluate

        return evaluate.status(self.config)

    def facts(self, num_ranks: int, models: Sequence[ModelSize] | None = None) -> Iterator[str]:
        """Candidates, parts and memory."""
        section = self.config.evaluation
        if models is None:
            pair = [(section.generator, "language_model"), (section.verifier, "verifier")]
            models = saved_models(pair)
        yield from counted(section, section.benchmarks, num_generators=1, num_greedy=1)
        yield replica_memory(section, models)

    def run(self, ranks: Ranks, array_task: ArrayTask = ONLY_TASK) -> None:
        """Evaluate; the first rank prints the table."""
        from rich.console import Console

        from training.report import against_table, summary_table
        from training.stages.runs.evaluate import evaluate

        evaluation = evaluate(self.config, ranks)
        if ranks.is_main:
            console = Console()
            console.print(summary_table(evaluation))
            if (differences := against_table(evaluation)) is not None:
                console.print(differences)
