"""Trace one rank's micro-batch with fake tensors: the activations it saves and what it sends.

    with fake_groups(layout, rank=5) as groups:
        run = run_micro_batch(config, groups)
        run.activations, run.exchanges

The rank's part of the model is built as for training, over torch's fake process group, and its
own code runs forward and backward on tensors with shapes and storages but without memory. What
DeepSpeed adds is in `zero.py`.
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
from parallel.planning.live_memory import LiveMemory
from parallel.planning.module_order import Call, recorded_calls
from parallel.ranks import Ranks
from parallel.settings import weights_dtype
from parallel.sharding import materialise, modules_to_shard
from parallel.torch_internals import FakeStore, FakeTensorMode
from training.config import TrainConfig
from training.data.micro_batch import MicroBatch, borders_of
from training.models.attention import PackedAttention
from training.models.build import empty_model
from training.models.heads import LanguageModel, Verifier
from training.models.parts import Block, rotary_angles

DOCUMENT_TOKENS = 150
"""Tokens of a typical example of TinyGSM: a question and its program."""
SUPERVISED_FRACTION = 0.45
"""The program's tokens among them; with data.train_on_prompt all are supervised."""

Model = LanguageModel | Verifier


def supervised_fraction(config: TrainConfig) -> float:
    """Fraction of a typical example's tokens that are supervised."""
    return 1.0 if config.data.train_on_prompt else SUPERVISED_FRACTION


@dataclass(frozen=True, kw_only=True, slots=True)
class Activations:
    """Bytes that autograd saves in the forward pass of one micro-batch."""

    body_bytes: int
    """Embedding and blocks; with activation checkpointing only the inputs of the blocks."""
    head_bytes: int
    """Final LayerNorm, head and loss; 0 before the last pipeline stage."""
    recomputed_bytes: int
    """One block, while it is recomputed; 0 without activation checkpointing."""
    temporary_bytes: int
    """What the peak of both passes holds beside these: above all gradients of the logits."""

    def peak_bytes(self, num_in_flight: int) -> int:
        """The peak with this many micro-batches between their two passes.

        The head's are freed before the first block is recomputed.
        """
        return (
            num_in_flight * self.body_bytes
            + max(self.head_bytes, self.recomputed_bytes)
            + self.temporary_bytes
        )


@dataclass(frozen=True, kw_only=True)
class MicroBatchRun:
    """What one micro-batch saves and sends on one rank."""

    model: Model
    """The rank's part of the model, on fake tensors."""
    called: tuple[Call, ...]
    """Its modules in the order in which the forward pass calls them."""
    activations: Activations
    exchanges: tuple[Exchange, ...]
    """Of both passes, all of them within the tensor group."""
    boundary_bytes: int
    """Activations that one pipeline stage sends to the next."""

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The rank's parameters by their names in the whole model."""
        module: nn.Module = self.model
        return dict(module.named_parameters())


def typical_micro_batch(config: TrainConfig) -> MicroBatch:
    """Sequences full of typical documents, the last one truncated."""
    shape = (config.training.sequences_at_a_time, config.data.sequence_length)
    offsets = torch.arange(shape[1]).repeat(shape[0], 1)
    positions = offsets % DOCUMENT_TOKENS
    num_context = DOCUMENT_TOKENS - round(supervised_fraction(config) * DOCUMENT_TOKENS)
    supervised = (positions >= num_context).flatten().nonzero().flatten()
    is_verifier = config.model.head == "verifier"
    return MicroBatch(
        tokens=torch.zeros(shape, dtype=torch.long),
        positions=positions,
        borders=borders_of(offsets // DOCUMENT_TOKENS),
        supervised=supervised,
        labels=torch.zeros(len(supervised), dtype=torch.float32 if is_verifier else torch.long),
        weights=torch.ones(len(supervised)),
    )


@contextmanager
def fake_groups(layout: Layout, rank: int) -> Generator[Groups, None, None]:
    """The groups of one rank of a layout, over a fake process group that sends nothing."""
    ranks = Ranks(rank=rank, world_size=layout.world_size, local_rank=0, launcher="plan")
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=layout.world_size)
    try:
        with warnings.catch_warnings():
            # megatron-core warns about missing packages that only GPUs use.
            warnings.simplefilter("ignore")
            groups = Groups.connect(layout, ranks)
        try:
            yield groups
        finally:
            groups.disconnect()
    finally:
        dist.destroy_process_group()


def run_micro_batch(config: TrainConfig, groups: Groups) -> MicroBatchRun:
    """Trace both passes of a typical micro-batch on this rank."""
    batch = typical_micro_batch(config)
    model = shard_model(config.model, groups)
    model.train()
    body, exchanges, live = model.body, Exchanges(), LiveMemory()
    mode = FakeTensorMode()
    attention = _PlannedAttention(batch, mode, config)
    inputs = (batch.tokens, batch.positions, batch.supervised, batch.labels, batch.weights)
    tokens, positions, at, labels, weights = map(mode.from_tensor, inputs)
    with mode, _linear_of(groups.layout):
        _fill(model, config, groups)
        saved = Saved(model)
        loss = loss_of(config.model.head, groups)
        for parameter in model.parameters():  # the engine moves each gradient at once
            parameter.register_post_accumulate_grad_hook(_free_gradient)
        with exchanges, live:
            with saved.counted(), recorded_calls(model) as called:
                with _casting(config, groups.layout):
                    start = _start(model, tokens, config, groups)
                    hidden = ending = body.run(start, positions, attention)
                    body_bytes = saved.num_bytes()
                    if hasattr(body, "final_norm"):
                        ending = model.predict(body.final_norm(hidden), at)
                if hasattr(body, "final_norm"):
                    ending = loss(ending, labels, weights)
            saved_bytes, boundary_bytes = saved.num_bytes(), hidden.nbytes
            saved.clear()
            del hidden
            ending.backward(torch.empty_like(ending))
        recomputed = 0
        if body.checkpoint_activations:
            with _casting(config, groups.layout):
                recomputed = _block_bytes(model, start, positions, attention)
    kept = body_bytes + max(saved_bytes - body_bytes, recomputed)
    return MicroBatchRun(
        model=model,
        # Here the body's modules are called one by one; the engine calls the body as a whole.
        called=(("", ()), ("body", ()), *called),
        activations=Activations(
            body_bytes=body_bytes,
            head_bytes=saved_bytes - body_bytes,
            recomputed_bytes=recomputed,
            temporary_bytes=max(0, live.peak_bytes - kept),
        ),
        exchanges=tuple(exchanges.seen),
        boundary_bytes=boundary_bytes,
    )


def _free_gradient(parameter: Tensor) -> None:
    parameter.grad = None


def _fill(model: Model, config: TrainConfig, groups: Groups) -> None:
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


def _start(model: Model, tokens: Tensor, config: TrainConfig, groups: Groups) -> Tensor:
    """The input of the rank's first block: the embedding's or the previous stage's output."""
    if groups.place.stage == 0:
        return model.body.embedding(tokens)
    layout = groups.layout
    num_sequences, num_tokens = tokens.shape
    num_tokens //= layout.tensor if layout.sequence else 1
    return torch.empty(
        num_sequences,
        num_tokens,
        config.model.hidden_size,
        dtype=weights_dtype(config, layout),
        requires_grad=True,
    )


def _block_bytes(model: Model, start: Tensor, positions: Tensor, attention: PackedAttention) -> int:
    """Bytes that autograd saves when one block is recomputed, without its input."""
    block = next(iter(model.body.blocks.values()))
    assert isinstance(block, Block)
    saved, start = Saved(model), start.detach().requires_grad_()
    rotary = rotary_angles(model.shape, positions, start.dtype)
    with saved.counted():
        block(start, rotary, attention)
    return saved.num_bytes(beside=(start, *rotary))


def _casting(config: TrainConfig, layout: Layout) -> torch.autocast:
    """bf16 without ZeRO, as in `settings.py`: fp32 weights under autocast."""
    casts = config.training.precision == "bf16" and not layout.zero_stage
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=casts)


class _SavedIdentity(torch.autograd.Function):
    """The identity, which saves its value for the backward pass."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        ctx.save_for_backward(value)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


@contextmanager
def _linear_of(layout: Layout) -> Generator[None, None, None]:
    """ZeRO-3 replaces torch's Linear by one that saves its bias (runtime/zero/linear.py)."""
    usual = functional.linear

    def linear(hidden: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return usual(hidden, weight, None if bias is None else _SavedIdentity.apply(bias))

    if layout.zero_stage == 3:
        functional.linear = linear
    try:
        yield
    finally:
        functional.linear = usual


class _PlannedAttention(PackedAttention):
    """The attention kernel of the planned device, on fake tensors."""

    def __init__(self, batch: MicroBatch, mode: FakeTensorMode, config: TrainConfig) -> None:
        super().__init__(mode.from_tensor(batch.borders), longest=batch.tokens.shape[1])
        self._on_gpu = config.training.device != "cpu"

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend within each document."""
        if not self._on_gpu or query.dtype == torch.float32:
            return super().__call__(layer, query, key, value)
        return self.variable_length(query, key, value)
