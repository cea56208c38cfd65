"""Tensor parallelism: the plain model's Linears and Embedding replaced by sharded ones.

    shard_modules(model, "language_model", groups)    # a model on the meta device, in place
    losses = cross_entropy(logits, labels)            # of logits sharded along the vocabulary

megatron-core's column-, row- and vocabulary-parallel layers hold the shards and mark each
parameter with the dim it is sharded along; DeepSpeed's norms and `sharding.py` read the marks.
Their collectives are not used: q, k, v and fc1 read the same input, and attention output and fc2
add into the same sum, so a block needs one all-reduce in forward (on leaving the tensor-parallel
region) and one in backward (on entering it), where Megatron's layers would run one per Linear.
The model has two seams for them, `enter` and `leave`; a block whose feed-forward network follows
attention passes each twice.

With sequence parallelism (arXiv 2205.05198) each rank of the tensor group also holds only its
part of the sequence between blocks: an all-gather enters, a reduce-scatter leaves.
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
from parallel.tensor_plan import Sharding, sharding_of
from training.models.heads import LanguageModel, Verifier
from training.models.parts import Block

_Function = Callable[[Tensor, Any], Tensor]


def shard_modules(model: LanguageModel | Verifier, head: str, groups: Groups) -> None:
    """Replace modules by tensor-parallel ones as the table in `tensor_plan.py` says, in place.

    Args:
        model: Some or all modules of a model, on the meta device.
        head: `language_model` or `verifier`.
        groups: With a tensor group.
    """
    assert groups.tensor is not None
    group, sequence = groups.tensor, groups.layout.sequence
    config = ModelParallelConfig(
        tensor_model_parallel_size=groups.layout.tensor,
        use_cpu_initialization=True,  # in fact on the default device: meta
        params_dtype=torch.float32,
    )
    module: nn.Module = model
    with torch.device("meta"):
        for name, plain in list(module.named_modules()):
            owner = module.get_submodule(name.rpartition(".")[0])
            match sharding_of(name, head), plain:
                case Sharding.COLUMN, nn.Linear():
                    _replace(owner, name, _ColumnLinear(plain, config, group))
                case Sharding.ROW, nn.Linear():
                    _replace(owner, name, _RowLinear(plain, config, group))
                case Sharding.VOCABULARY, nn.Embedding():
                    _replace(owner, name, _Embedding(plain, config, group, sequence=sequence))
                case Sharding.REPLICATED, nn.LayerNorm() | nn.RMSNorm() if sequence:
                    _replace(owner, name, _SummedGradients(plain, group))
                case Sharding.PER_HEAD, nn.RMSNorm():
                    _replace(owner, name, _SummedGradients(plain, group))
                case None, Block():
                    _replace(plain, "enter", _EnterTensorParallel(group, sequence=sequence))
                    _replace(plain, "leave", _LeaveTensorParallel(group, sequence=sequence))
                case _:
                    pass
        if sharding_of("head", head) is Sharding.COLUMN:
            _replace(model, "enter", _EnterTensorParallel(group, sequence=sequence))
        elif sequence:
            _replace(model, "enter", _GatherSequence(group))


def _replace(owner: nn.Module, name: str, module: nn.Module) -> None:
    name = name.rpartition(".")[2]
    assert name in dict(owner.named_children()), name
    setattr(owner, name, module)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of each position, `[positions]`, from this rank's shard of the logits.

    Args:
        logits: `[positions, vocab / tensor degree]`, fp32; overwritten.
        labels: ids in the whole vocabulary, `[positions]`.
    """
    return vocab_parallel_cross_entropy(logits, labels)


class _ColumnLinear(ColumnParallelLinear):
    """Some outputs of a Linear. Its input is whole; `_EnterTensorParallel` sums the gradients."""

    def __init__(self, linear: nn.Linear, config: ModelParallelConfig, group: Any) -> None:
        super().__init__(
            linear.in_features,
            linear.out_features,
            config=config,
            init_method=_no_init,
            bias=_has_bias(linear),
            tp_group=group,
        )

    def forward(self, input_: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """`[..., in]` to `[..., out / degree]`."""
        assert self.weight is not None
        return F.linear(input_, self.weight, self.bias)


class _RowLinear(RowParallelLinear):
    """A Linear over some inputs: an addend of its output. `_LeaveTensorParallel` sums them."""

    def __init__(self, linear: nn.Linear, config: ModelParallelConfig, group: Any) -> None:
        super().__init__(
            linear.in_features,
            linear.out_features,
            config=config,
            init_method=_no_init,
            bias=_has_bias(linear),
            input_is_parallel=True,
            skip_bias_add=False,
            tp_group=group,
        )
        self._degree = group.size()

    def forward(self, input_: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """`[..., in / degree]` to an addend of `[..., out]`."""
        bias = _BiasAddend.apply(self.bias, self._degree) if _has_bias(self) else None
        return F.linear(input_, self.weight, bias)


class _Embedding(VocabParallelEmbedding):
    """Some rows of an Embedding; other ids give zeros, and the sum over the ranks is whole."""

    def __init__(
        self, embedding: nn.Embedding, config: ModelParallelConfig, group: Any, *, sequence: bool
    ) -> None:
        super().__init__(
            embedding.num_embeddings,
            embedding.embedding_dim,
            init_method=_no_init,
            config=config,
            tp_group=group,
        )
        self.leave = _LeaveTensorParallel(group, sequence=sequence)

    def forward(self, input_: Tensor) -> Tensor:
        """Ids `[sequences, tokens]` to `[sequences, tokens, hidden]`."""
        elsewhere = (input_ < self.vocab_start_index) | (input_ >= self.vocab_end_index)
        local = (input_ - self.vocab_start_index).masked_fill(elsewhere, 0)
        return self.leave(F.embedding(local, self.weight).masked_fill(elsewhere[..., None], 0.0))


class _SummedGradients(nn.Module):
    """A norm over this rank's part of the sequence or of the heads; its gradients are all-reduced.

    The parameters keep their names.
    """

    def __init__(self, norm: nn.LayerNorm | nn.RMSNorm, group: Any) -> None:
        super().__init__()
        self.weight = norm.weight
        self.bias = getattr(norm, "bias", None)
        self._size, self._eps, self._group = norm.normalized_shape, norm.eps, group

    def forward(self, input: Tensor) -> Tensor:
        """Normalise the last dim."""
        weight = _collective(self.weight, _identity, all_reduce, self._group)
        if self.bias is None:
            return F.rms_norm(input, self._size, weight, self._eps)
        bias = _collective(self.bias, _identity, all_reduce, self._group)
        return F.layer_norm(input, self._size, weight, bias, self._eps or 0.0)


class _EnterTensorParallel(nn.Module):
    """From whole activations to sharded weights: sums the gradients of all shards."""

    def __init__(self, group: Any, *, sequence: bool) -> None:
        super().__init__()
        self._group, self._sequence = group, sequence

    def forward(self, hidden: Tensor) -> Tensor:
        """`[sequences, tokens (/ degree), hidden]` to `[sequences, tokens, hidden]`."""
        if self._sequence:
            return _collective(hidden, all_gather_sequence, reduce_scatter_sequence, self._group)
        return _collective(hidden, _identity, all_reduce, self._group)


class _LeaveTensorParallel(nn.Module):
    """From the addends of a sharded sum to the sum."""

    def __init__(self, group: Any, *, sequence: bool) -> None:
        super().__init__()
        self._group, self._sequence = group, sequence

    def forward(self, addend: Tensor) -> Tensor:
        """Addends `[sequences, tokens, hidden]` to `[sequences, tokens (/ degree), hidden]`."""
        if self._sequence:
            return _collective(addend, reduce_scatter_sequence, all_gather_sequence, self._group)
        return _collective(addend, all_reduce, _identity, self._group)


class _GatherSequence(nn.Module):
    """Gathers the whole sequence, for a head that is replicated."""

    def __init__(self, group: Any) -> None:
        super().__init__()
        self._group = group

    def forward(self, hidden: Tensor) -> Tensor:
        """`[sequences, tokens / degree, hidden]` to `[sequences, tokens, hidden]`."""
        # The head's gradients are equal on all ranks: none are summed.
        return _collective(hidden, all_gather_sequence, _own_part, self._group)


def _has_bias(linear: nn.Module) -> bool:
    return getattr(linear, "bias", None) is not None


def _no_init(weight: Tensor) -> Tensor:
    return weight


# The collectives; some are the backward pass of others. megatron-core's have the same arithmetic,
# but they allocate on `torch.cuda.current_device()` and drop the sum of a strided input.


def _identity(value: Tensor, group: Any) -> Tensor:
    return value.view_as(value)


def all_reduce(value: Tensor, group: Any) -> Tensor:
    """The sum of all ranks' values, a new tensor."""
    value = value.contiguous().clone()
    dist.all_reduce(value, group=group)
    return value


def all_gather_sequence(value: Tensor, group: Any) -> Tensor:
    """All ranks' parts of a sequence, `[sequences, tokens / degree, ...]`, put together."""
    parts = [torch.empty_like(value) for _ in range(group.size())]
    dist.all_gather(parts, value.contiguous(), group=group)
    return torch.cat(parts, dim=1)


def reduce_scatter_sequence(value: Tensor, group: Any) -> Tensor:
    """This rank's part, along the sequence, of the sum of all ranks' values."""
    parts = [part.contiguous() for part in value.chunk(group.size(), dim=1)]
    mine = torch.empty_like(parts[0])
    dist.reduce_scatter(mine, parts, group=group)
    return mine


def _own_part(value: Tensor, group: Any) -> Tensor:
    return value.chunk(group.size(), dim=1)[group.rank()]


class _Collective(torch.autograd.Function):
    """A collective of the group on the value, another on its gradient."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, forward: _Function, backward: _Function, group: Any
    ) -> Tensor:
        ctx.apply_backward, ctx.group = backward, group
        return forward(value, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.apply_backward(gradients[0], ctx.group), None, None, None


_collective: Any = torch.compiler.disable(_Collective.apply)
"""Not traced: a compiled block is three graphs, between the two collectives."""


class _BiasAddend(torch.autograd.Function):
    """One of `degree` equal addends of a bias; the gradient is that of the whole bias."""

    @staticmethod
    def forward(ctx: Any, bias: Tensor, degree: int) -> Tensor:
        return bias / degree

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None
