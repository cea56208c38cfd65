"""What a layout costs each of its ranks, worked out on one machine without a GPU.

    plan = make_plan(config, layout, rank=0)
    plan.mine.total_bytes, plan.stages[3].transfers, plan.bubble

The rank's share of the model is built and run without values (`dry_run.py`); what DeepSpeed
adds is worked out (`zero_costs.py`). Counted is what stays: temporaries of single operations,
above all the gradient of the logits, CUDA's context and the allocator's gaps come on top.
"""

import collections
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from parallel.groups import Groups
from parallel.layout import Layout, Place, micro_batches_per_step, stage_blocks
from parallel.planning.communication import sent_bytes
from parallel.planning.module_order import both_passes
from parallel.planning.trace import (
    Activations,
    MicroBatchRun,
    pretended,
    run_micro_batch,
    supervised_share,
)
from parallel.planning.zero import Share, Transfer, zero_costs
from parallel.settings import check_precision
from parallel.sharding import unsharded_size
from training.config import TrainConfig
from training.monitoring.metrics import block_matmul_parameters, head_matmul_parameters
from training.optimizer import adamw

INTEGER_BYTES = 8
"""Of a token's id, its position, its document."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StagePlan:
    """One rank of a pipeline stage; bytes are what it holds at most at a time."""

    stage: int
    blocks: tuple[int, ...]
    """Numbers of the blocks it holds."""
    parameters: int
    """Held by the rank, where tensors are cut its parts of them."""
    stage_parameters: int
    """Of the whole stage: of all its tensor-parallel ranks, what they share counted once."""
    multiplying_parameters: int
    """Of the whole stage, for an average token: matrices of its blocks, and of the head the
    share of tokens that are supervised, since it is computed at those only."""
    weights_bytes: int
    gathered_bytes: int
    """ZeRO-3: weights that are whole while they are needed."""
    gradients_bytes: int
    optimizer_bytes: int
    activations: Activations
    """Of one micro-batch."""
    num_in_flight: int
    """Micro-batches between their forward and their backward pass."""
    bucket_bytes: int
    """For gradients on their way, during the backward pass."""
    flattened_bytes: int
    """For gradients on their way, after the last backward pass."""
    pipeline_bytes: int
    """What the pipeline keeps to receive and to hand on."""
    transfers: tuple[Transfer, ...]
    """In one optimizer step."""

    @property
    def activations_bytes(self) -> int:
        """Of all micro-batches in flight."""
        return self.activations.peak_bytes(self.num_in_flight)

    @property
    def total_bytes(self) -> int:
        """Most held at a time: in the passes, or while gradients are summed after them."""
        states = self.weights_bytes + self.gradients_bytes + self.optimizer_bytes
        passes = self.activations_bytes + self.gathered_bytes + self.bucket_bytes
        return states + self.pipeline_bytes + max(passes, self.flattened_bytes)

    @property
    def sent_bytes(self) -> int:
        """What the rank sends in one optimizer step, around rings."""
        return sum(sent(transfer) for transfer in self.transfers)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A run's layout seen from one of its ranks."""

    layout: Layout
    rank: int
    place: Place
    tensor_ranks: tuple[int, ...]
    """Ranks that hold the other parts of its tensors, itself included."""
    data_ranks: tuple[int, ...]
    """Ranks that train the same parameters on other rows."""
    pipeline_ranks: tuple[int, ...]
    """Ranks of the pipeline it is in, from the first stage."""
    num_micro_batches: int
    """Of one pipeline, or of one rank, in a step."""
    on_gpu: bool
    """Whether attention was reckoned as GPUs do it."""
    stages: tuple[StagePlan, ...]
    """A rank of each pipeline stage, this rank's own among them."""

    @property
    def mine(self) -> StagePlan:
        """This rank's."""
        return self.stages[self.place.stage]

    @property
    def parameters(self) -> int:
        """Of the whole model."""
        return sum(stage.stage_parameters for stage in self.stages)

    @property
    def bubble(self) -> float:
        """Share of a step that a pipeline stage waits: (p - 1) / (m + p - 1).

        Of p stages that take equally long for each of m micro-batches (arXiv 1811.06965,
        section 2.3).
        """
        waiting = self.layout.pipeline - 1
        return waiting / (self.num_micro_batches + waiting)


def sent(transfer: Transfer) -> int:
    """Bytes that each rank of the group sends around a ring in one optimizer step."""
    return sent_bytes(transfer.operation, transfer.num_bytes, transfer.num_ranks)


def make_plan(config: TrainConfig, layout: Layout, *, rank: int) -> Plan:
    """Plan a rank and, beside it, one of each other pipeline stage.

    Raises:
        ConfigError: the engine would refuse the config.
    """
    check_precision(config.training.precision, config.training.device)
    with pretended(layout, rank) as groups:
        place = groups.place
        stages = tuple(
            _stage_plan(config, _at_stage(groups, stage)) for stage in range(layout.pipeline)
        )
        return Plan(
            layout=layout,
            rank=rank,
            place=place,
            tensor_ranks=_ranks_of(groups.tensor) or (rank,),
            data_ranks=_ranks_of(groups.data) or tuple(range(layout.world_size)),
            pipeline_ranks=_ranks_of(groups.pipeline) or (rank,),
            num_micro_batches=micro_batches_per_step(config, layout),
            on_gpu=config.training.device != "cpu",
            stages=stages,
        )


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain data, sums and sent bytes included."""
    stages = [
        {
            **dataclasses.asdict(stage),
            "activations_bytes": stage.activations_bytes,
            "total_bytes": stage.total_bytes,
            "sent_bytes": stage.sent_bytes,
            "transfers": [
                {**dataclasses.asdict(transfer), "sent_bytes": sent(transfer)}
                for transfer in stage.transfers
            ],
        }
        for stage in plan.stages
    ]
    return {
        **dataclasses.asdict(plan),
        "parameters": plan.parameters,
        "bubble": plan.bubble,
        "stages": stages,
    }


def _at_stage(groups: Groups, stage: int) -> Groups:
    """The same place at another pipeline stage; its tensor group has other ranks, as many."""
    return dataclasses.replace(groups, place=dataclasses.replace(groups.place, stage=stage))


def _ranks_of(group: dist.ProcessGroup | None) -> tuple[int, ...]:
    return () if group is None else tuple(dist.get_process_group_ranks(group))


def _stage_plan(config: TrainConfig, groups: Groups) -> StagePlan:
    layout, stage = groups.layout, groups.place.stage
    run = run_micro_batch(config, groups)
    num_micro_batches = micro_batches_per_step(config, layout)
    costs = zero_costs(_share(config, groups, run))
    # 1F1B: a stage is ahead of the last by as many forward passes as there are stages between.
    num_in_flight = min(layout.pipeline - stage, num_micro_batches)
    counted = {
        name: unsharded_size(value, groups).numel() for name, value in run.parameters.items()
    }
    return StagePlan(
        stage=stage,
        blocks=tuple(stage_blocks(config.model, layout.pipeline)[stage]),
        parameters=sum(value.numel() for value in run.parameters.values()),
        stage_parameters=sum(counted.values()),
        multiplying_parameters=_multiplying_parameters(config, layout, stage),
        weights_bytes=costs.weights_bytes,
        gathered_bytes=costs.gathered_bytes,
        gradients_bytes=costs.gradients_bytes,
        optimizer_bytes=costs.optimizer_bytes,
        activations=run.activations,
        num_in_flight=num_in_flight,
        bucket_bytes=costs.bucket_bytes,
        flattened_bytes=costs.flattened_bytes,
        pipeline_bytes=_pipeline_bytes(config, groups, run, num_in_flight),
        transfers=tuple(
            transfer
            for transfer in (
                *_tensor_transfers(run, num_micro_batches),
                *_sends(config, groups, run, num_micro_batches),
                *costs.transfers,
            )
            if transfer.num_ranks > 1 and transfer.num_bytes
        ),
    )


def _multiplying_parameters(config: TrainConfig, layout: Layout, stage: int) -> int:
    num_blocks = len(stage_blocks(config.model, layout.pipeline)[stage])
    head = head_matmul_parameters(config.model) if stage == layout.pipeline - 1 else 0
    blocks = num_blocks * block_matmul_parameters(config.model)
    return blocks + round(supervised_share(config) * head)


def _share(config: TrainConfig, groups: Groups, run: MicroBatchRun) -> Share:
    layout = groups.layout
    names = {id(value): name for name, value in run.parameters.items()}
    optimizer = adamw(run.model, config.optimizer)
    return Share(
        groups=[
            {names[id(value)]: value.numel() for value in group["params"]}
            for group in optimizer.param_groups
        ],
        steps=both_passes(run.called, checkpointed=config.model.activation_checkpointing),
        data_degree=layout.data,
        data_rank=groups.place.data,
        zero_stage=layout.zero_stage,
        precision=config.training.precision,
        num_micro_batches=micro_batches_per_step(config, layout),
        pipelined=layout.pipeline > 1,
    )


def _tensor_transfers(run: MicroBatchRun, num_micro_batches: int) -> Iterator[Transfer]:
    """What was seen within the tensor group, for all micro-batches of a step."""
    totals: collections.Counter[str] = collections.Counter()
    for exchange in run.exchanges:
        totals[exchange.operation] += exchange.num_bytes
    for operation, num_bytes in sorted(totals.items()):
        yield Transfer(
            purpose="parts of tensors",
            operation=operation,
            num_bytes=num_bytes * num_micro_batches,
            num_ranks=len(run.exchanges[0].ranks),
        )


def _integers_bytes(config: TrainConfig) -> int:
    """Positions, or documents, or tokens, of one micro-batch."""
    return config.training.micro_batch_sequences * config.data.sequence_length * INTEGER_BYTES


def _sends(
    config: TrainConfig, groups: Groups, run: MicroBatchRun, num_micro_batches: int
) -> Iterator[Transfer]:
    """To the pipeline stages beside this one (deepspeed/runtime/pipe/engine.py)."""
    stages, stage = groups.layout.pipeline, groups.place.stage
    forward = run.boundary_bytes + 2 * _integers_bytes(config)
    for purpose, num_bytes, there in (
        ("activations to the next stage", forward, stage < stages - 1),
        ("gradients to the stage before", run.boundary_bytes, stage > 0),
    ):
        if there:
            yield Transfer(
                purpose=purpose,
                operation="send",
                num_bytes=num_bytes * num_micro_batches,
                num_ranks=2,
            )


def _pipeline_bytes(
    config: TrainConfig, groups: Groups, run: MicroBatchRun, num_in_flight: int
) -> int:
    """What DeepSpeed's pipeline holds beside what autograd saved (runtime/pipe/engine.py).

    A buffer for each thing received; and of every micro-batch in flight its input and its
    output, with positions and documents in both: a stage computes on a copy of its input.
    The last stage lets go of an output when its place, one of two, is wanted again.
    """
    stages, stage = groups.layout.pipeline, groups.place.stage
    if stages == 1:
        return 0
    integers, boundary = _integers_bytes(config), run.boundary_bytes
    received = boundary + 2 * integers if stage > 0 else 0
    received += boundary if stage < stages - 1 else 0
    inputs = num_in_flight * ((boundary if stage > 0 else integers) + 2 * integers)
    kept = (
        num_in_flight
        if stage < stages - 1
        else min(2, micro_batches_per_step(config, groups.layout))
    )
    return received + inputs + kept * (boundary + 2 * integers)
