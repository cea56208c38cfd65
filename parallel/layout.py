"""Layouts: how many ranks share a tensor, a pipeline and the data, and who sits where.

    layout = Layout.of(config, world_size=8)      # tensor 2 x pipeline 2 x data 2, ZeRO-1
    layout.place(5)                               # Place(tensor=1, data=0, stage=1)

Everything here is arithmetic on a config: it needs neither torch nor GPUs, so that an
impossible layout is refused on a login node at once. Ranks are numbered as Megatron and
DeepSpeed number them: tensor neighbours first, then data, then pipeline stages.
"""

import itertools
from dataclasses import dataclass

from typing_extensions import Self

from training.config import ConfigError, ModelConfig, TrainConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a rank sits: its coordinates on the three axes of a layout."""

    tensor: int
    data: int
    stage: int
    """Pipeline stage."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """The degrees of a run."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    zero_stage: int = 1
    sequence: bool = False
    """Whether tensor neighbours also share the tokens between blocks."""

    @classmethod
    def of(cls, config: TrainConfig, world_size: int) -> Self:
        """The layout that a config asks for on this many ranks.

        Raises:
            ConfigError: there is no rank, or the ranks or the rows of a step do not divide among
                its degrees.
        """
        if world_size < 1:
            raise ConfigError(f"{world_size} ranks: a run has 1 at least")
        parallel, training = config.parallel, config.training
        model_degree = parallel.tensor * parallel.pipeline
        if world_size % model_degree:
            raise ConfigError(
                f"parallel.tensor x parallel.pipeline = {parallel.tensor} x {parallel.pipeline} = "
                f"{model_degree} does not divide the {world_size} ranks of this run: start a "
                f"multiple of {model_degree} ranks, or change one of the degrees"
            )
        data = world_size // model_degree
        rows = training.micro_batch_sequences * data
        if training.global_batch_sequences % rows:
            raise ConfigError(
                f"training.global_batch_sequences = {training.global_batch_sequences} is not a "
                "multiple of "
                f"training.micro_batch_sequences x data degree = {training.micro_batch_sequences} "
                f"x {data} "
                f"({world_size} ranks / {model_degree}) = {rows}"
            )
        return cls(
            tensor=parallel.tensor,
            pipeline=parallel.pipeline,
            data=data,
            zero_stage=parallel.zero_stage,
            sequence=parallel.sequence_parallel,
        )

    @property
    def world_size(self) -> int:
        """Ranks of the run."""
        return self.tensor * self.pipeline * self.data

    def place(self, rank: int) -> Place:
        """Coordinates of a rank."""
        return Place(
            tensor=rank % self.tensor,
            data=rank // self.tensor % self.data,
            stage=rank // (self.tensor * self.data),
        )

    def __str__(self) -> str:
        sequence = " with sequence parallelism" if self.sequence else ""
        return (
            f"tensor {self.tensor}{sequence} x pipeline {self.pipeline} x data {self.data}, "
            f"ZeRO-{self.zero_stage}"
        )


def micro_batches_per_step(config: TrainConfig, layout: Layout) -> int:
    """Gradient accumulation: micro-batches that one rank, or one pipeline, takes in a step."""
    training = config.training
    return training.global_batch_sequences // (training.micro_batch_sequences * layout.data)


def stage_blocks(model: ModelConfig, num_stages: int) -> list[range]:
    """Which blocks each pipeline stage holds: the most loaded stage is as light as can be.

    The load of a stage is its parameters that multiply: what its time goes with. So the
    embedding, whose rows are looked up, counts nothing, and the head, on the last stage,
    counts whole. Each stage gets a block at least.
    """
    if num_stages == 1:
        return [range(model.num_layers)]
    hidden = model.hidden_size
    block = 4 * hidden * hidden + 2 * hidden * model.ffn_size
    head = hidden * (1 if model.head == "verifier" else model.vocab_size)
    # The heaviest stage may weigh as much as `most` blocks; the last one has a head to carry.
    most = next(
        most
        for most in itertools.count(1)
        if most * (num_stages - 1) + max(1, most - head / block) >= model.num_layers
    )
    in_last = min(max(1, int(most - head / block)), model.num_layers - num_stages + 1)
    others = num_stages - 1
    even, odd = divmod(model.num_layers - in_last, others)
    sizes = [even + (stage < odd) for stage in range(others)] + [in_last]
    ends = list(itertools.accumulate(sizes))
    return [range(end - size, end) for size, end in zip(sizes, ends, strict=True)]
