"""The train stage: a generator or a verifier learns from prepared data."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from parallel.layout import Layout, accumulation_steps_of
from parallel.ranks import Ranks
from parallel.workers.array import ONLY_TASK, ArrayTask
from training.checkpoint_paths import saved_step
from training.config import BenchmarkConfig, ConfigError, SourceConfig, TrainConfig
from training.config.values import AUTO
from training.data.order import Order
from training.manifest import Status
from training.stages import readable, same_run
from training.stages.model_size import ModelSize
from training.stages.prepared_data import PreparedData
from training.stages.stage import Stage


class TrainStage(Stage[TrainConfig]):
    """Train on all ranks, in any layout."""

    verb = "train"
    config_class = TrainConfig

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        self._data = PreparedData(config)

    @property
    def folder(self) -> Path:
        """`run.folder`."""
        return self.config.run.folder

    def inputs(self) -> Iterator[tuple[str, str]]:
        """Weights to start from, and what a verifier is evaluated with."""
        yield "model.initial_weights", self.config.model.initial_weights
        if self.config.model.head == "verifier" and self.config.evaluation.every_steps:
            yield "evaluation.generator", self.config.evaluation.generator

    def question_sets(self) -> Iterator[SourceConfig | BenchmarkConfig]:
        """Benchmarks of in-training evaluation, and what is read where data is prepared first."""
        if self.config.evaluation.every_steps:
            yield from self.config.evaluation.benchmarks
        if self.config.data.prepare_if_missing and self._data.is_to_prepare:
            yield from self.config.data.decontaminate
            yield from self.config.data.sources

    def refuse_folder(self) -> None:
        """Refuse another verb's folder, or checkpoints of a config that decides other numbers."""
        same_run.changed_settings(self.config)

    def problems(self, num_ranks: int) -> Iterator[str]:
        """The layout and the data."""
        yield from readable.layout_problems(self.config, num_ranks)
        yield from self._data.problems(may_prepare=self.config.data.prepare_if_missing)

    def notes(self) -> list[str]:
        """Inputs of the data that could not be compared."""
        return self._data.notes()

    def status(self) -> Status:
        """Which step it starts or resumes from."""
        from training.stages.runs import train

        return train.status(self.config)

    def status_before_inputs(self) -> Status:
        """The step it resumes from is known without its inputs."""
        step = saved_step(self.folder)
        return Status(f"runs after it{f', from step {step:,}' if step else ''}")

    def facts(self, num_ranks: int, models: Sequence[ModelSize] | None = None) -> Iterator[str]:
        """Layout, tokens of a step, epochs and memory."""
        config, training = self.config, self.config.training
        layout = Layout.from_config(config, num_ranks)
        tokens = training.global_batch_sequences * config.data.sequence_length
        yield f"{num_ranks:,} ranks: {layout}{_micro_batches(config, layout)}"
        yield (
            f"a step: {training.global_batch_sequences:,} sequences of "
            f"{config.data.sequence_length:,} tokens, {tokens:,} in all; "
            f"{training.max_steps:,} steps: {tokens * training.max_steps:,}"
        )
        found = self._data.comparison
        if found and found.is_current:
            yield _epochs(config, found.facts)
        yield from _planned_memory(config, layout, num_ranks)

    def run(self, ranks: Ranks, array_task: ArrayTask = ONLY_TASK) -> None:
        """Train to the last step, from the newest checkpoint that verifies."""
        # An impossible layout is refused before the imports, which take seconds.
        Layout.from_config(self.config, ranks.world_size)
        from training.stages.runs.train import train

        train(self.config, ranks)


def _epochs(config: TrainConfig, facts: Mapping[str, Any]) -> str:
    """One line: passes over the data, with weights over each source."""
    training, data = config.training, config.data
    weights = data.source_weights
    counts = [source["sequences"] for source in facts["sources"]] if weights else None
    sizes: list[int] = counts or [facts["sequences"]]
    consumed = training.global_batch_sequences * training.max_steps
    epochs = Order(sizes, weights or [1.0], seed=config.run.seed).epochs(consumed)
    listed = ", ".join(f"{passes:.2f} epochs" for passes in epochs)
    of_each = f" of {', '.join(f'{size:,}' for size in sizes)}" if weights else ""
    return f"data: {facts['sequences']:,} sequences in {data.folder}: {listed}{of_each}"


def _micro_batches(config: TrainConfig, layout: Layout) -> str:
    """The end of a line; empty where a device's memory decides."""
    if config.training.micro_batch_sequences == AUTO:
        return ""
    count = accumulation_steps_of(config, layout)
    return (
        f"; {count} micro-batch{'es' * (count > 1)} of {config.training.sequences_at_a_time} "
        "sequences in a step of each data-parallel rank"
    )


def _planned_memory(config: TrainConfig, layout: Layout, num_ranks: int) -> Iterator[str]:
    """The plan's memory of the fullest rank; of `auto`, what it becomes on usual devices."""
    from parallel.planning import auto

    if not auto.asked(config):
        yield _memory_of(config, layout)
        return
    peaks = auto.Peaks(config, layout)
    for device, memory_bytes in auto.devices(config, num_ranks):
        try:
            choice = auto.choose(config, layout, memory_bytes, peaks)
        except ConfigError as error:
            yield f"{device}: {error}"
        else:
            yield f"{device}: {choice}"


def _memory_of(config: TrainConfig, layout: Layout) -> str:
    """One line: the plan's memory of the fullest rank."""
    from parallel.planning.plan import make_plan
    from parallel.planning.table import in_units

    plan = make_plan(config, layout, rank=0)
    fullest = max(plan.stages, key=lambda stage: stage.total_bytes)
    parts = {
        "weights": fullest.weights_bytes + fullest.gathered_bytes,
        "gradients": fullest.gradients_bytes,
        "optimizer state": fullest.optimizer_bytes,
        "activations": fullest.activations_bytes,
        "pipeline": fullest.pipeline_bytes,
        "buckets": max(fullest.bucket_bytes, fullest.flattened_bytes),
    }
    listed = ", ".join(f"{name} {in_units(size)}" for name, size in parts.items() if size)
    where = f" of pipeline stage {fullest.stage}" if len(plan.stages) > 1 else ""
    return (
        f"memory: {in_units(fullest.total_bytes)} at most on each "
        f"{'GPU' if plan.on_gpu else 'CPU'} rank{where} ({listed}); {plan.parameters:,} parameters"
    )
