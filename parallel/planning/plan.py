"""Memory and communication of a layout's ranks, computed on one machine without a GPU.

    plan = make_plan(config, layout, rank=0)
    plan.mine.total_bytes, plan.stages[3].transfers, plan.bubble

The rank's part of the model is built and run without values (`trace.py`); what DeepSpeed adds is
computed (`zero.py`). Not included: what single kernels allocate within themselves, buffers of NCCL,
CUDA's context, and the allocator's fragmentation.
"""

import collections
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from parallel.groups import Groups
from parallel.layout import Layout, Place, accumulation_steps_of, stage_blocks
from parallel.planning.communication import sent_bytes
from parallel.planning.module_order import both_passes
from parallel.planning.trace import (
    Activations,
    MicroBatchRun,
    fake_groups,
    run_micro_batch,
    supervised_fraction,
)
from parallel.planning.zero import FP32, RankParameters, Transfer, zero_costs
from parallel.settings import check_precision
from parallel.sharding import STATES, unsharded_size
from training.config import TrainConfig
from training.flops import block_matmul_parameters, head_matmul_parameters
from training.optimizer import adamw

INTEGER_BYTES = 8
"""Of a token id, a position or a document id."""


_STATES_BYTES = FP32 * len(STATES)
"""Of a parameter in a checkpoint."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StagePlan:
    """One rank of a pipeline stage; all bytes are peaks."""

    stage: int
    blocks: tuple[int, ...]
    """Numbers of its blocks."""
    parameters: int
    """Held by the rank: of sharded tensors its shards."""
    stage_parameters: int
    """Of the whole stage: of all ranks of its tensor group, replicated ones counted once."""
    multiplying_parameters: int
    """Matmul parameters of the whole stage per average token: those of its blocks, and of the
    head times the fraction of tokens that are supervised, since it is applied at those only."""
    weights_bytes: int
    gathered_bytes: int
    """ZeRO-3: weights that are gathered while they are needed."""
    gradients_bytes: int
    optimizer_bytes: int
    activations: Activations
    """Of one micro-batch."""
    num_in_flight: int
    """Micro-batches between their forward and their backward pass."""
    bucket_bytes: int
    """Buckets for the reduction of gradients during the backward pass."""
    flattened_bytes: int
    """Flattened copies for the reduction of gradients after the last backward pass."""
    pipeline_bytes: int
    """The pipeline's receive buffers, and the inputs and outputs it keeps."""
    host_bytes: int
    """In main memory, with `parallel.offload_optimizer`: not in `total_bytes`."""
    copies_bytes: int
    """In main memory, about: the weights and moments that the rank copies for a checkpoint. Not in
    `total_bytes`."""
    transfers: tuple[Transfer, ...]
    """In one optimizer step."""

    @property
    def activations_bytes(self) -> int:
        """Of all micro-batches in flight."""
        return self.activations.peak_bytes(self.num_in_flight)

    @property
    def total_bytes(self) -> int:
        """Peak: during the passes, or while gradients are reduced after them."""
        states = self.weights_bytes + self.gradients_bytes + self.optimizer_bytes
        passes = self.activations_bytes + self.gathered_bytes + self.bucket_bytes
        return states + self.pipeline_bytes + max(passes, self.flattened_bytes)

    @property
    def sent_bytes(self) -> int:
        """What the rank sends in one optimizer step, with ring collectives."""
        return sum(sent(transfer) for transfer in self.transfers)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The plan of a layout, from the view of one rank."""

    layout: Layout
    rank: int
    place: Place
    tensor_ranks: tuple[int, ...]
    """Its tensor group, itself included."""
    data_ranks: tuple[int, ...]
    """Its data-parallel group, itself included."""
    pipeline_ranks: tuple[int, ...]
    """Its pipeline, from the first stage."""
    num_micro_batches: int
    """Of one data-parallel rank, or its pipeline, in a step."""
    on_gpu: bool
    """Whether the plan assumes the attention kernel of GPUs."""
    stages: tuple[StagePlan, ...]
    """One rank of each pipeline stage, this rank among them."""

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
        """Fraction of a step that a pipeline stage idles: (p - 1) / (m + p - 1).

        For p stages that take equally long for each of m micro-batches (arXiv 1811.06965,
        section 2.3).
        """
        idle = self.layout.pipeline - 1
        return idle / (self.num_micro_batches + idle)


def sent(transfer: Transfer) -> int:
    """Bytes that each rank of the group sends in one optimizer step, with ring collectives."""
    return sent_bytes(transfer.operation, transfer.num_bytes, transfer.num_ranks)


def make_plan(config: TrainConfig, layout: Layout, *, rank: int) -> Plan:
    """Plan this rank, and one rank of each other pipeline stage.

    Raises:
        ConfigError: the engine would refuse the config.
    """
    check_precision(config.training, config.training.device)
    with fake_groups(layout, rank) as groups:
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
            num_micro_batches=accumulation_steps_of(config, layout),
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
    """The same coordinates at another pipeline stage; the tensor group stands for that stage's."""
    return dataclasses.replace(groups, place=dataclasses.replace(groups.place, stage=stage))


def _ranks_of(group: dist.ProcessGroup | None) -> tuple[int, ...]:
    return () if group is None else tuple(dist.get_process_group_ranks(group))


def _stage_plan(config: TrainConfig, groups: Groups) -> StagePlan:
    layout, stage = groups.layout, groups.place.stage
    run = run_micro_batch(config, groups)
    num_micro_batches = accumulation_steps_of(config, layout)
    costs = zero_costs(_rank_parameters(config, groups, run))
    # 1F1B: a stage runs as many forward passes ahead of the last as stages follow it.
    num_in_flight = min(layout.pipeline - stage, num_micro_batches)
    whole_sizes = {
        name: unsharded_size(value, groups).numel() for name, value in run.parameters.items()
    }
    return StagePlan(
        stage=stage,
        blocks=tuple(stage_blocks(config.model, layout.pipeline)[stage]),
        parameters=sum(value.numel() for value in run.parameters.values()),
        stage_parameters=sum(whole_sizes.values()),
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
        host_bytes=costs.host_bytes,
        copies_bytes=_STATES_BYTES * sum(whole_sizes.values()) // (layout.tensor * layout.data),
        transfers=tuple(
            transfer
            for transfer in (
                *_tensor_transfers(run, num_micro_batches),
                *_sends(groups, run, num_micro_batches),
                *costs.transfers,
            )
            if transfer.num_ranks > 1 and transfer.num_bytes
        ),
    )


def _multiplying_parameters(config: TrainConfig, layout: Layout, stage: int) -> int:
    num_blocks = len(stage_blocks(config.model, layout.pipeline)[stage])
    head = head_matmul_parameters(config.model) if stage == layout.pipeline - 1 else 0
    blocks = num_blocks * block_matmul_parameters(config.model)
    return blocks + round(supervised_fraction(config) * head)


def _rank_parameters(config: TrainConfig, groups: Groups, run: MicroBatchRun) -> RankParameters:
    layout = groups.layout
    names = {id(value): name for name, value in run.parameters.items()}
    optimizer = adamw(run.model, config.optimizer)
    return RankParameters(
        groups=[
            {names[id(value)]: value.numel() for value in group["params"]}
            for group in optimizer.param_groups
        ],
        steps=both_passes(run.called, checkpointed=config.model.recomputes),
        data_degree=layout.data,
        data_rank=groups.place.data,
        zero_stage=layout.zero_stage,
        precision=config.training.precision,
        num_micro_batches=accumulation_steps_of(config, layout),
        pipelined=layout.pipeline > 1,
        offloaded=config.parallel.offload_optimizer,
        reduced_in_bf16=config.parallel.reduce_dtype == "bf16",
    )


def _tensor_transfers(run: MicroBatchRun, num_micro_batches: int) -> Iterator[Transfer]:
    """The traced communication of the tensor group, for all micro-batches of a step."""
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


def _token_bytes(config: TrainConfig) -> int:
    """Token ids of one micro-batch."""
    return config.training.sequences_at_a_time * config.data.sequence_length * INTEGER_BYTES


def _sends(groups: Groups, run: MicroBatchRun, num_micro_batches: int) -> Iterator[Transfer]:
    """To the neighbouring pipeline stages (deepspeed/runtime/pipe/engine.py)."""
    stages, stage = groups.layout.pipeline, groups.place.stage
    for purpose, there in (
        ("activations to the next stage", stage < stages - 1),
        ("gradients to the stage before", stage > 0),
    ):
        if there:
            yield Transfer(
                purpose=purpose,
                operation="send",
                num_bytes=run.boundary_bytes * num_micro_batches,
                num_ranks=2,
            )


def _pipeline_bytes(
    config: TrainConfig, groups: Groups, run: MicroBatchRun, num_in_flight: int
) -> int:
    """What DeepSpeed's pipeline holds beside what autograd saves (runtime/pipe/engine.py).

    A receive buffer for activations and one for gradients; and of every micro-batch in flight its
    input and its output: a stage computes on a copy of its input. The last stage frees an output
    when its slot, one of two, is reused.
    """
    stages, stage = groups.layout.pipeline, groups.place.stage
    if stages == 1:
        return 0
    boundary = run.boundary_bytes
    received = boundary * ((stage > 0) + (stage < stages - 1))
    inputs = num_in_flight * (boundary if stage > 0 else _token_bytes(config))
    kept = (
        num_in_flight
        if stage < stages - 1
        else min(2, accumulation_steps_of(config, groups.layout))
    )
    return received + inputs + kept * boundary
