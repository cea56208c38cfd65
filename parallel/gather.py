"""Unsharded weights of a running engine, one module at a time, in any layout.

They feed the Hugging Face folders of checkpoints and the replica that in-training evaluation
samples with. At most one module of `modules_to_shard` is unsharded at a time. Every rank must
iterate to the end.
"""

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from parallel.engine import Engine
from parallel.layout import stage_blocks
from parallel.sharding import modules_to_shard, unshard
from training.models.build import empty_model


def whole_weights(engine: Engine) -> Iterator[tuple[str, Tensor]]:
    """Name and unsharded tensor of every parameter of the model, on every rank.

    Each tensor is freed when the next one is requested: copy what is to be kept.
    """
    groups, held = engine.groups, engine.state.parameters
    for prefix, module in modules_to_shard(empty_model(engine.config.model, "meta")):
        sizes = {f"{prefix}{name}": value.shape for name, value in module.named_parameters()}
        mine = [held[name] for name in sizes if name in held]
        with engine.unpartitioned(mine):
            for name, size in sizes.items():
                if name in held:
                    value = unshard(held[name].detach(), held[name], groups)
                else:
                    value = torch.empty(size, dtype=held_dtype(engine), device=engine.device)
                if groups.pipeline is not None:
                    value = value.contiguous()
                    dist.broadcast(value, group=groups.pipeline, group_src=_stage_of(name, engine))
                yield name, value
                # Otherwise the caller's variable would keep it alive beside the next module.
                value.data = value.new_empty(0)


@torch.no_grad()
def fill(replica: nn.Module, engine: Engine) -> None:
    """Copy the engine's unsharded weights into a plain model with the same names."""
    parameters = dict(replica.named_parameters())
    for name, value in whole_weights(engine):
        parameters[name].copy_(value)


def held_dtype(engine: Engine) -> torch.dtype:
    """The dtype of an engine's weights."""
    return next(iter(engine.state.parameters.values())).dtype


def _stage_of(name: str, engine: Engine) -> int:
    """The pipeline stage that holds a parameter."""
    stages = stage_blocks(engine.config.model, engine.groups.layout.pipeline)
    if name.startswith("body.embedding."):
        return 0
    if not name.startswith("body.blocks."):
        return len(stages) - 1
    number = int(name.split(".")[2])
    return next(stage for stage, blocks in enumerate(stages) if number in blocks)
