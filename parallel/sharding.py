"""This rank's share of a model: which blocks, which part of each tensor, filled piece by piece.

    model = skeleton(config.model, groups)                 # meta device: costs nothing
    for piece in pieces(model):
        materialise(piece, value_of, groups, device, dtype)  # one block above what is kept

A share keeps the whole model's parameter names, so that weights, checkpoints and starting
values are found by name in every layout.
"""

import functools
from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from parallel.groups import Groups
from parallel.layout import stage_blocks
from training.config import ModelConfig
from training.losses import Loss, language_model_loss, verifier_loss
from training.models.build import empty_model
from training.models.heads import LanguageModel, Verifier

COLUMNS = ("query", "key", "value", "fc1")
"""Linears cut along their outputs: each rank works out some of the heads, some of the features."""
ROWS = ("attention_output", "fc2")
"""Linears cut along their inputs: each rank works out a share of the sum."""

ValueOf = Callable[[str], Tensor]
"""A whole parameter's value by its name."""


def skeleton(config: ModelConfig, groups: Groups) -> LanguageModel | Verifier:
    """The share of this rank, without values, on the meta device."""
    model = empty_model(config, "meta")
    if groups.tensor is not None:
        from parallel.tensor import shard  # megatron-core takes seconds to import

        shard(model, groups)
    stage, last = groups.place.stage, groups.layout.pipeline - 1
    for number in set(range(config.num_layers)) - set(stage_blocks(config, last + 1)[stage]):
        del model.body.blocks[str(number)]
    if stage > 0:
        del model.body.embedding
    if stage < last:
        del model.body.final_norm, model.head
    return model


def pieces(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """A model or a share cut into (prefix, module): each block, each module beside the blocks.

    No piece is larger than a block, the embedding or the head.
    """
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleDict):
            for number, block in child.items():
                yield f"{name}.{number}.", block
        elif any(isinstance(grandchild, nn.ModuleDict) for grandchild in child.children()):
            for inner, block in pieces(child):
                yield f"{name}.{inner}", block
        elif any(True for _ in child.parameters()):
            yield f"{name}.", child


@torch.no_grad()
def materialise(
    piece: tuple[str, nn.Module],
    value_of: ValueOf,
    groups: Groups,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Give a piece's parameters their values, each this rank's part of the whole one."""
    prefix, module = piece
    for owner_name, owner in module.named_modules():
        for name, parameter in owner.named_parameters(recurse=False):
            full_name = prefix + (f"{owner_name}." if owner_name else "") + name
            part = part_of(value_of(full_name), parameter, groups)
            filled = nn.Parameter(part.to(device=device, dtype=dtype, copy=True))
            vars(filled).update(vars(parameter))  # how it is cut
            setattr(owner, name, filled)


def cut_dim(parameter: Tensor) -> int | None:
    """The dim a parameter is cut along over the tensor group; None: it is whole."""
    if getattr(parameter, "tensor_model_parallel", False):
        return int(parameter.partition_dim)  # pyright: ignore[reportAttributeAccessIssue]
    return None


def part_of(whole: Tensor, parameter: Tensor, groups: Groups) -> Tensor:
    """The slice of a whole tensor that belongs where `parameter` is."""
    dim = cut_dim(parameter)
    return whole if dim is None else whole.chunk(groups.layout.tensor, dim)[groups.place.tensor]


def whole_of(part: Tensor, parameter: Tensor, groups: Groups) -> Tensor:
    """A tensor from its parts, cut as `parameter` is (all ranks of the tensor group call it)."""
    dim = cut_dim(parameter)
    if dim is None:
        return part
    if dim == 0:  # the large ones: nothing is held beside the result
        whole = part.new_empty((len(part) * groups.layout.tensor, *part.shape[1:]))
        # Its new name, `all_gather_single`, is unknown to torch 2.10.
        dist.all_gather_into_tensor(whole, part.contiguous(), group=groups.tensor)  # pyright: ignore[reportDeprecated]
        return whole
    parts = [torch.empty_like(part) for _ in range(groups.layout.tensor)]
    dist.all_gather(parts, part.contiguous(), group=groups.tensor)
    return torch.cat(parts, dim=dim)


def loss_of(head: str, groups: Groups) -> Loss:
    """The loss of a head, where its output may be this rank's part of it."""
    if head == "verifier":
        return verifier_loss
    if groups.tensor is None:
        return language_model_loss
    from parallel.tensor import cross_entropy  # megatron-core takes seconds to import

    return functools.partial(language_model_loss, cross_entropy=cross_entropy)
