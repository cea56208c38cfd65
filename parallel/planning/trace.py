"""One rank's micro-batch without a cluster, memory or arithmetic: what it keeps and sends.

    with pretended(layout, rank=5) as groups:
        found = run_micro_batch(config, groups)
        found.activations, found.exchanges

The rank's share is built as the engine builds it, over torch's fake process group, and the
model's own code runs forward and backward on tensors that have shapes and storages but no
memory. What DeepSpeed adds to that is in `zero_costs.py`.
"""

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from parallel.groups import Groups
from parallel.layout import Layout
from parallel.parallelize import loss_of, shard_model
from parallel.planning.communication import Exchange, Exchanges, Saved
from parallel.planning.module_order import Call, recorded
from parallel.ranks import Ranks
from parallel.settings import weights_dtype
from parallel.sharding import materialise, modules_to_shard
from parallel.torch_internals import FakeStore, FakeTensorMode
from training.config import TrainConfig
from training.losses import supervised
from training.models.attention import PackedAttention
from training.models.build import empty_model
from training.models.heads import LanguageModel, Verifier
from training.models.phi import Block, rotary_angles

DOCUMENT_TOKENS = 150
"""Tokens of a typical example: a question and its program, in TinyGSM."""
SUPERVISED_SHARE = 0.45
"""Of them the program's; with data.train_on_prompt every token counts."""

Share = LanguageModel | Verifier


def supervised_share(config: TrainConfig) -> float:
    """Share of typical tokens that are supervised."""
    return 1.0 if config.data.train_on_prompt else SUPERVISED_SHARE


@dataclass(frozen=True, kw_only=True, slots=True)
class Activations:
    """Bytes that the forward pass of one micro-batch leaves for its backward pass."""

    body_bytes: int
    """Embedding and blocks; of the blocks their inputs alone with activation checkpointing."""
    head_bytes: int
    """Final LayerNorm, head and loss; 0 before the last pipeline stage."""
    recomputed_bytes: int
    """One block, while it is computed again; 0 without activation checkpointing."""

    def peak_bytes(self, num_in_flight: int) -> int:
        """Most of it at a time, with so many micro-batches between their two passes.

        The head's are gone before the first block is computed again.
        """
        return num_in_flight * self.body_bytes + max(self.head_bytes, self.recomputed_bytes)


@dataclass(frozen=True, kw_only=True)
class MicroBatchRun:
    """What one micro-batch was seen to keep and to send on one rank's share."""

    model: Share
    """The share, without values."""
    called: tuple[Call, ...]
    """Its modules in the order of the forward pass."""
    activations: Activations
    exchanges: tuple[Exchange, ...]
    """Of both passes, all within the tensor group."""
    boundary_bytes: int
    """Activations that one pipeline stage hands to the next."""

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The share's parameters by their names in the whole model."""
        module: nn.Module = self.model
        return dict(module.named_parameters())


@dataclass(frozen=True, kw_only=True, slots=True)
class TypicalRows:
    """Rows full of typical documents, the last one cut; tensors are `[rows, tokens]`."""

    tokens: Tensor
    positions: Tensor
    document_ids: Tensor
    labels: Tensor
    supervised: Tensor
    weights: Tensor

    @classmethod
    def of(cls, config: TrainConfig) -> "TypicalRows":
        """One micro-batch of a config."""
        shape = (config.training.micro_batch_sequences, config.data.sequence_length)
        place = torch.arange(shape[1]).repeat(shape[0], 1)
        positions = place % DOCUMENT_TOKENS
        num_context = DOCUMENT_TOKENS - round(supervised_share(config) * DOCUMENT_TOKENS)
        verifies = config.model.head == "verifier"
        return cls(
            tokens=torch.zeros(shape, dtype=torch.long),
            positions=positions,
            document_ids=place // DOCUMENT_TOKENS,
            labels=torch.zeros(shape, dtype=torch.float32 if verifies else torch.long),
            supervised=positions >= num_context,
            weights=torch.ones(shape),
        )


@contextmanager
def pretended(layout: Layout, rank: int) -> Generator[Groups, None, None]:
    """Be one rank of a layout, alone: its groups, over a process group that sends nothing."""
    ranks = Ranks(rank=rank, world_size=layout.world_size, local_rank=0, launcher="plan")
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=layout.world_size)
    try:
        with warnings.catch_warnings():
            # megatron-core warns of packages that only GPUs could use.
            warnings.simplefilter("ignore")
            groups = Groups.connect(layout, ranks)
        try:
            yield groups
        finally:
            groups.disconnect()
    finally:
        dist.destroy_process_group()


def run_micro_batch(config: TrainConfig, groups: Groups) -> MicroBatchRun:
    """Both passes of one micro-batch of typical rows over this rank's share."""
    rows = TypicalRows.of(config)
    places, labels, weights = supervised(rows, torch.device("cpu"))
    model = shard_model(config.model, groups)
    model.train()
    body, saved, exchanges = model.body, Saved(model), Exchanges()
    mode = FakeTensorMode()
    attention = _PlannedAttention(rows.document_ids, mode, config)
    inputs = (rows.tokens, rows.positions, places, labels, weights)
    tokens, positions, places, labels, weights = map(mode.from_tensor, inputs)
    with mode, _linear_of(groups.layout):
        _fill(model, config, groups)
        loss = loss_of(config.model.head, groups)
        with exchanges:
            with saved.counted(), recorded(model) as called:
                with _casting(config, groups.layout):
                    start = _start(model, tokens, config, groups)
                    hidden = ending = body.run(start, positions, attention)
                    body_bytes = saved.num_bytes()
                    if hasattr(model, "head"):
                        ending = model.predict(body.final_norm(hidden), places)
                if hasattr(model, "head"):
                    ending = loss(ending, labels, weights)
            saved_bytes, boundary_bytes = saved.num_bytes(), hidden.nbytes
            ending.backward(torch.empty_like(ending))
        recomputed = 0
        if body.checkpoint_activations:
            with _casting(config, groups.layout):
                recomputed = _block_bytes(model, start, positions, attention)
    return MicroBatchRun(
        model=model,
        # The parts of the body are called one by one here, by the engine as one.
        called=(("", ()), ("body", ()), *called),
        activations=Activations(
            body_bytes=body_bytes,
            head_bytes=saved_bytes - body_bytes,
            recomputed_bytes=recomputed,
        ),
        exchanges=tuple(exchanges.seen),
        boundary_bytes=boundary_bytes,
    )


def _fill(model: Share, config: TrainConfig, groups: Groups) -> None:
    whole: nn.Module = empty_model(config.model, "meta")
    sizes = {name: value.shape for name, value in whole.named_parameters()}
    dtype = weights_dtype(config, groups.layout)
    for prefix, module in modules_to_shard(model):
        materialise(
            prefix,
            module,
            lambda name: torch.empty(sizes[name]),
            groups,
            torch.device("cpu"),
            dtype,
        )


def _start(model: Share, tokens: Tensor, config: TrainConfig, groups: Groups) -> Tensor:
    """What the first block of a share reads: the embedding's, or the stage before's."""
    if hasattr(model.body, "embedding"):
        return model.body.embedding(tokens)
    layout = groups.layout
    num_rows, num_tokens = tokens.shape
    num_tokens //= layout.tensor if layout.sequence else 1
    return torch.empty(
        num_rows,
        num_tokens,
        config.model.hidden_size,
        dtype=weights_dtype(config, layout),
        requires_grad=True,
    )


def _block_bytes(model: Share, start: Tensor, positions: Tensor, attention: PackedAttention) -> int:
    """Bytes that one block saves when it is computed again, beside its input."""
    block = next(iter(model.body.blocks.values()))
    assert isinstance(block, Block)
    saved, start = Saved(model), start.detach().requires_grad_()
    rotary = rotary_angles(model.shape, positions, start.dtype)
    with saved.counted():
        block(start, rotary, attention)
    return saved.num_bytes(beside=(start, *rotary))


def _casting(config: TrainConfig, layout: Layout) -> torch.autocast:
    """The engine's way to bf16 without ZeRO: fp32 weights, products cast."""
    casts = config.training.precision == "bf16" and not layout.zero_stage
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=casts)


class _Kept(torch.autograd.Function):
    """The same value, saved."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        ctx.save_for_backward(value)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


@contextmanager
def _linear_of(layout: Layout) -> Generator[None, None, None]:
    """ZeRO-3 puts a product in place of torch's that saves its bias (runtime/zero/linear.py)."""
    usual = functional.linear

    def linear(hidden: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return usual(hidden, weight, None if bias is None else _Kept.apply(bias))

    if layout.zero_stage == 3:
        functional.linear = linear
    try:
        yield
    finally:
        functional.linear = usual


class _PlannedAttention(PackedAttention):
    """The attention of the device that is planned for, on tensors that are on none."""

    def __init__(self, document_ids: Tensor, mode: FakeTensorMode, config: TrainConfig) -> None:
        super().__init__(document_ids)
        self._borders = mode.from_tensor(self._borders)
        self._on_gpu = config.training.device != "cpu"

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend within each document."""
        if not self._on_gpu or query.dtype == torch.float32:
            return super().__call__(layer, query, key, value)
        flat = [heads.flatten(0, 1) for heads in (query, key, value)]
        return self._variable_length(*flat).view(query.shape)
