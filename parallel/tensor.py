"""Tensor parallelism: the plain model's Linears and Embedding swapped for parts of them.

    shard(model, groups)                      # a model on the meta device, in place
    losses = cross_entropy(logits, labels)    # of logits cut along the vocabulary

megatron-core's column-, row- and vocab-parallel layers hold the parts and mark each
parameter with the dim it is cut along; the marks are what DeepSpeed's norms and
`share.py` go by. Their own exchanges are not used: q, k, v and fc1 read one input
and attention output and fc2 add into one sum, so a block needs a single exchange on
entering (in the backward pass) and on leaving (in the forward), where Megatron's layers
would make one per product. The model has two seams for it, `enter` and `leave`.

With sequence parallelism the tokens between blocks are shared among the tensor group as
well (arXiv 2205.05198): an all-gather enters and a reduce-scatter leaves.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from megatron.core import ModelParallelConfig
from megatron.core.tensor_parallel import (
    ColumnParallelLinear,
    RowParallelLinear,
    VocabParallelEmbedding,
    vocab_parallel_cross_entropy,
)
from torch import Tensor, nn

from parallel.groups import Groups
from parallel.sharding import COLUMNS, ROWS
from training.models.heads import LanguageModel, Verifier
from training.models.phi import Block

_Function = Callable[[Tensor, Any], Tensor]


def shard(model: LanguageModel | Verifier, groups: Groups) -> None:
    """Swap what is cut for this rank's part. The model must be on the meta device.

    A verifier's head has one output and stays whole.
    """
    assert groups.tensor is not None
    group, sequence = groups.tensor, groups.layout.sequence
    config = ModelParallelConfig(
        tensor_model_parallel_size=groups.layout.tensor,
        use_cpu_initialization=True,  # on the default device, in truth: meta
        params_dtype=torch.float32,
    )
    body = model.body
    with torch.device("meta"):
        _swap(body, "embedding", _Embedding(body.embedding, config, group, sequence=sequence))
        for block in body.blocks.values():
            assert isinstance(block, Block)
            for name in COLUMNS:
                _swap(block, name, _Columns(getattr(block, name), config, group))
            for name in ROWS:
                _swap(block, name, _Rows(getattr(block, name), config, group))
            _swap(block, "enter", _Enter(group, sequence=sequence))
            _swap(block, "leave", _Leave(group, sequence=sequence))
            if sequence:
                _swap(block, "norm", _SharedNorm(block.norm, group))
        if sequence:
            _swap(body, "final_norm", _SharedNorm(body.final_norm, group))
        if isinstance(model, LanguageModel):
            _swap(model, "head", _Columns(model.head, config, group))
            _swap(model, "enter", _Enter(group, sequence=sequence))
        elif sequence:
            _swap(model, "enter", _GatherAll(group))


def _swap(owner: nn.Module, name: str, module: nn.Module) -> None:
    assert name in dict(owner.named_children()), name
    setattr(owner, name, module)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of each row, `[rows]`, from this rank's columns of the logits.

    Args:
        logits: `[rows, vocab / tensor degree]`, fp32; overwritten.
        labels: ids in the whole vocabulary, `[rows]`.
    """
    return vocab_parallel_cross_entropy(logits, labels)


class _Columns(ColumnParallelLinear):
    """Some outputs of a Linear. What enters is whole; `_Enter` sums the gradients."""

    def __init__(self, linear: nn.Linear, config: ModelParallelConfig, group: Any) -> None:
        super().__init__(
            linear.in_features,
            linear.out_features,
            config=config,
            init_method=_leave_as_is,
            tp_group=group,
        )

    def forward(self, input_: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """`[..., in]` to `[..., out / degree]`."""
        assert self.weight is not None
        return F.linear(input_, self.weight, self.bias)


class _Rows(RowParallelLinear):
    """A Linear's sum over some inputs, with a share of the bias; `_Leave` adds the shares."""

    def __init__(self, linear: nn.Linear, config: ModelParallelConfig, group: Any) -> None:
        super().__init__(
            linear.in_features,
            linear.out_features,
            config=config,
            init_method=_leave_as_is,
            bias=True,
            input_is_parallel=True,
            skip_bias_add=False,
            tp_group=group,
        )
        self._degree = group.size()

    def forward(self, input_: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """`[..., in / degree]` to a share of `[..., out]`."""
        return F.linear(input_, self.weight, _Share.apply(self.bias, self._degree))


class _Embedding(VocabParallelEmbedding):
    """Some rows of an Embedding; ids of others give zeros, and the ranks' sums are whole."""

    def __init__(
        self, embedding: nn.Embedding, config: ModelParallelConfig, group: Any, *, sequence: bool
    ) -> None:
        super().__init__(
            embedding.num_embeddings,
            embedding.embedding_dim,
            init_method=_leave_as_is,
            config=config,
            tp_group=group,
        )
        self.leave = _Leave(group, sequence=sequence)

    def forward(self, input_: Tensor) -> Tensor:
        """Ids `[rows, tokens]` to `[rows, tokens, hidden]`."""
        elsewhere = (input_ < self.vocab_start_index) | (input_ >= self.vocab_end_index)
        local = (input_ - self.vocab_start_index).masked_fill(elsewhere, 0)
        return self.leave(F.embedding(local, self.weight).masked_fill(elsewhere[..., None], 0.0))


class _SharedNorm(nn.LayerNorm):
    """A LayerNorm over this rank's tokens, whose gradients count everybody's."""

    def __init__(self, norm: nn.LayerNorm, group: Any) -> None:
        super().__init__(list(norm.normalized_shape), eps=norm.eps)
        self._group = group

    def forward(self, input: Tensor) -> Tensor:
        """Normalise the last dim."""
        weight, bias = (
            _Exchange.apply(p, _same, _summed, self._group) for p in (self.weight, self.bias)
        )
        return F.layer_norm(input, self.normalized_shape, weight, bias, self.eps)


class _Enter(nn.Module):
    """Where whole activations meet parts of weights: gradients of all parts are summed."""

    def __init__(self, group: Any, *, sequence: bool) -> None:
        super().__init__()
        self._group, self._sequence = group, sequence

    def forward(self, hidden: Tensor) -> Tensor:
        """`[rows, tokens (/ degree), hidden]` to `[rows, tokens, hidden]`."""
        if self._sequence:
            return _Exchange.apply(hidden, _tokens_gathered, _tokens_scattered, self._group)
        return _Exchange.apply(hidden, _same, _summed, self._group)


class _Leave(nn.Module):
    """Where shares of a sum are added up."""

    def __init__(self, group: Any, *, sequence: bool) -> None:
        super().__init__()
        self._group, self._sequence = group, sequence

    def forward(self, share: Tensor) -> Tensor:
        """Shares `[rows, tokens, hidden]` to sums `[rows, tokens (/ degree), hidden]`."""
        if self._sequence:
            return _Exchange.apply(share, _tokens_scattered, _tokens_gathered, self._group)
        return _Exchange.apply(share, _summed, _same, self._group)


class _GatherAll(nn.Module):
    """Everybody's tokens, for a head that is whole on every rank."""

    def __init__(self, group: Any) -> None:
        super().__init__()
        self._group = group

    def forward(self, hidden: Tensor) -> Tensor:
        """`[rows, tokens / degree, hidden]` to `[rows, tokens, hidden]`."""
        # Gradients are everybody's already: nothing is to be added up.
        return _Exchange.apply(hidden, _tokens_gathered, _own_tokens, self._group)


def _leave_as_is(weight: Tensor) -> Tensor:
    return weight


# The exchanges, some the other's backward pass. Megatron's own have the same arithmetic, but
# they allocate on `torch.cuda.current_device()` and drop the sum of a strided input.


def _same(value: Tensor, group: Any) -> Tensor:
    return value.view_as(value)


def _summed(value: Tensor, group: Any) -> Tensor:
    value = value.contiguous().clone()
    dist.all_reduce(value, group=group)
    return value


def _tokens_gathered(value: Tensor, group: Any) -> Tensor:
    parts = [torch.empty_like(value) for _ in range(group.size())]
    dist.all_gather(parts, value.contiguous(), group=group)
    return torch.cat(parts, dim=1)


def _tokens_scattered(value: Tensor, group: Any) -> Tensor:
    parts = [part.contiguous() for part in value.chunk(group.size(), dim=1)]
    mine = torch.empty_like(parts[0])
    dist.reduce_scatter(mine, parts, group=group)
    return mine


def _own_tokens(value: Tensor, group: Any) -> Tensor:
    return value.chunk(group.size(), dim=1)[group.rank()]


class _Exchange(torch.autograd.Function):
    """One function of the group on the value, another on its gradient."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, there: _Function, back: _Function, group: Any) -> Tensor:
        ctx.back, ctx.group = back, group
        return there(value, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.back(gradients[0], ctx.group), None, None, None


class _Share(torch.autograd.Function):
    """One of `degree` equal shares of a bias that is added up later, with its whole gradient."""

    @staticmethod
    def forward(ctx: Any, bias: Tensor, degree: int) -> Tensor:
        return bias / degree

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None
