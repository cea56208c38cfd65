"""A model's parameters one module at a time, and their tensor-parallel shards.

    for prefix, module in modules_to_shard(model):       # of a model on the meta device
        materialise(prefix, module, value_of, groups, device, dtype)

Names are those of the whole model in every layout: initial values, checkpoints and exports look
parameters up by name.
"""

from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from parallel.groups import Groups

WEIGHT, MOMENTS = "fp32", ("exp_avg", "exp_avg_sq")
STATES = (WEIGHT, *MOMENTS)
"""What is saved of each parameter, in fp32, as DeepSpeed's universal checkpoints name it."""

ValueOf = Callable[[str], Tensor]
"""A parameter's unsharded value by its name."""


def modules_to_shard(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The units that a model is built, sharded and gathered in, each as (prefix, module).

    They are the blocks and every module beside them (the embedding, the final LayerNorm, the
    head): what is unsharded at a time never exceeds the largest of these.
    """
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleDict):
            for number, block in child.items():
                yield f"{name}.{number}.", block
        elif any(isinstance(grandchild, nn.ModuleDict) for grandchild in child.children()):
            for inner, block in modules_to_shard(child):
                yield f"{name}.{inner}", block
        elif any(True for _ in child.parameters()):
            yield f"{name}.", child


@torch.no_grad()
def materialise(
    prefix: str,
    module: nn.Module,
    value_of: ValueOf,
    groups: Groups,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Replace a module's parameters on the meta device by this rank's shards of their values."""
    for owner_name, owner in module.named_modules():
        for name, parameter in owner.named_parameters(recurse=False):
            full_name = prefix + (f"{owner_name}." if owner_name else "") + name
            shard = shard_of(value_of(full_name), parameter, groups)
            filled = nn.Parameter(shard.to(device=device, dtype=dtype, copy=True))
            vars(filled).update(vars(parameter))  # megatron-core's marks
            setattr(owner, name, filled)


def marked_dim(parameter: Tensor) -> int | None:
    """The dim that a parameter is sharded along, by megatron-core's marks; None: replicated."""
    if getattr(parameter, "tensor_model_parallel", False):
        return int(parameter.partition_dim)  # pyright: ignore[reportAttributeAccessIssue]
    return None


def unsharded_size(parameter: Tensor, groups: Groups) -> torch.Size:
    """The size of the whole parameter that `parameter` is this rank's shard of."""
    # Under ZeRO-3 the parameter itself is empty and DeepSpeed keeps its shape.
    size = list(getattr(parameter, "ds_shape", parameter.shape))
    if (dim := marked_dim(parameter)) is not None:
        size[dim] *= groups.layout.tensor
    return torch.Size(size)


def shard_of(value: Tensor, parameter: Tensor, groups: Groups) -> Tensor:
    """This rank's shard of an unsharded tensor, sharded as `parameter` is. A view."""
    dim = marked_dim(parameter)
    return value if dim is None else value.chunk(groups.layout.tensor, dim)[groups.place.tensor]


def unshard(shard: Tensor, parameter: Tensor, groups: Groups) -> Tensor:
    """The unsharded tensor, of shards made as `parameter` is: a collective of the tensor group."""
    dim = marked_dim(parameter)
    if dim is None:
        return shard
    if dim == 0:  # the large ones: nothing is held beside the result
        value = shard.new_empty((len(shard) * groups.layout.tensor, *shard.shape[1:]))
        # Its new name, `all_gather_single`, is unknown to torch 2.10.
        dist.all_gather_into_tensor(value, shard.contiguous(), group=groups.tensor)  # pyright: ignore[reportDeprecated]
        return value
    shards = [torch.empty_like(shard) for _ in range(groups.layout.tensor)]
    dist.all_gather(shards, shard.contiguous(), group=groups.tensor)
    return torch.cat(shards, dim=dim)
