"""Layouts: the tensor, pipeline and data degrees of a run, and each rank's coordinates.

    layout = Layout.from_config(config, world_size=8)   # tensor 2 x pipeline 2 x data 2, ZeRO-1
    layout.place(5)                                     # Place(tensor=1, data=0, stage=1)

Arithmetic on a config, without torch or GPUs: an impossible layout is refused at once, on a login
node. Ranks are numbered as in Megatron and DeepSpeed: tensor axis innermost, then data, then
pipeline stages.
"""

import itertools
from dataclasses import dataclass

from typing_extensions import Self

from training.config import ConfigError, ModelConfig, TrainConfig
from training.config.values import AUTO
from training.flops import block_matmul_parameters, head_matmul_parameters


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A rank's coordinates on the three axes of a layout."""

    tensor: int
    data: int
    stage: int
    """Pipeline stage."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """The degrees of a run, and its ZeRO stage."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    zero_stage: int = 1
    sequence: bool = False
    """Sequence parallelism: the tensor group also shards activations between blocks."""

    @classmethod
    def from_config(cls, config: TrainConfig, world_size: int) -> Self:
        """The layout that a config requests on this many ranks.

        Raises:
            ConfigError: there is no rank, the number of ranks or of sequences in a step is not
                a multiple of the degrees, or the step has too many micro-batches.
        """
        if world_size < 1:
            raise ConfigError(f"{world_size} ranks: a run has at least 1")
        parallel, training = config.parallel, config.training
        model_degree = parallel.tensor * parallel.pipeline
        if world_size % model_degree:
            raise ConfigError(
                f"parallel.tensor x parallel.pipeline = {parallel.tensor} x {parallel.pipeline} = "
                f"{model_degree} does not divide the {world_size} ranks of this run: start a "
                f"multiple of {model_degree} ranks, or change one of the degrees"
            )
        data = world_size // model_degree
        is_auto = training.micro_batch_sequences == AUTO
        try:
            num_micro_batches = accumulation_steps(
                training.global_batch_sequences,
                1 if is_auto else training.sequences_at_a_time,
                data_degree=data,
            )
        except ConfigError as error:
            raise ConfigError(
                f"{error} (data degree: {world_size} ranks / {model_degree} = {data}"
                f"{'; auto is at least 1' if is_auto else ''})"
            ) from None
        if parallel.reduce_dtype == "bf16" and num_micro_batches > 1 and not is_auto:
            raise ConfigError(
                f"parallel.reduce_dtype = 'bf16' with {num_micro_batches} micro-batches in a step, "
                "whose gradients would be summed in bf16: set training.micro_batch_sequences = "
                f"{training.global_batch_sequences // data}, or parallel.reduce_dtype = 'fp32'"
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


def accumulation_steps(
    global_batch_sequences: int, micro_batch_sequences: int, *, data_degree: int
) -> int:
    """Micro-batches that one data-parallel rank, or its pipeline, takes in a step.

    Raises:
        ConfigError: the global batch is not a whole number of micro-batches on every rank.
    """
    at_once = micro_batch_sequences * data_degree
    if global_batch_sequences % at_once:
        raise ConfigError(
            f"training.global_batch_sequences = {global_batch_sequences} is not a multiple of "
            f"training.micro_batch_sequences x data-parallel ranks = {micro_batch_sequences} x "
            f"{data_degree} = {at_once}: change one of them"
        )
    return global_batch_sequences // at_once


def accumulation_steps_of(config: TrainConfig, layout: Layout) -> int:
    """`accumulation_steps` of a run."""
    training = config.training
    return accumulation_steps(
        training.global_batch_sequences,
        training.sequences_at_a_time,
        data_degree=layout.data,
    )


def stage_blocks(model: ModelConfig, num_stages: int) -> list[range]:
    """The blocks of each pipeline stage, such that the largest load is as small as possible.

    A stage's load is its number of matmul parameters, to which its time is proportional: the
    embedding, a lookup, counts as nothing and the head, on the last stage, in full. Each stage
    gets at least one block.
    """
    if num_stages == 1:
        return [range(model.num_layers)]
    block, head = block_matmul_parameters(model), head_matmul_parameters(model)
    # The largest load, in blocks; on the last stage the head takes a part of it.
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
