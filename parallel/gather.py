"""Whole weights out of a sharded run, one piece at a time.

Feeds checkpoints' Hugging Face folders and the replica that in-training evaluation
samples with. At most one piece (a block, the embedding or the head) is held whole above
the shards, whatever the layout. Every rank must walk the stream to its end.
"""

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from parallel.engine import Engine
from parallel.layout import stage_blocks
from parallel.sharding import pieces, whole_of
from training.models.build import empty_model


def whole_weights(engine: Engine) -> Iterator[tuple[str, Tensor]]:
    """Name and whole tensor of every parameter of the model, piece by piece, on every rank.

    The tensors are lent: copy what is to be kept before asking for the next one, which empties
    them.
    """
    groups, held = engine.groups, engine.parameters()
    for prefix, module in pieces(empty_model(engine.config.model, "meta")):
        sizes = {f"{prefix}{name}": value.shape for name, value in module.named_parameters()}
        mine = [held[name] for name in sizes if name in held]
        with engine.unpartitioned(mine):
            for name, size in sizes.items():
                if name in held:
                    value = whole_of(held[name].detach(), held[name], groups)
                else:
                    value = torch.empty(size, dtype=held_dtype(engine), device=engine.device)
                if groups.pipeline is not None:
                    value = value.contiguous()
                    dist.broadcast(value, group=groups.pipeline, group_src=_stage_of(name, engine))
                yield name, value
                # Else the borrower's variable would keep it beside the next piece.
                value.data = value.new_empty(0)


@torch.no_grad()
def fill(replica: nn.Module, engine: Engine) -> None:
    """Copy the engine's whole weights into a plain model of the same names."""
    parameters = dict(replica.named_parameters())
    for name, value in whole_weights(engine):
        parameters[name].copy_(value)


def held_dtype(engine: Engine) -> torch.dtype:
    """The dtype that an engine holds its weights in."""
    return next(iter(engine.parameters().values())).dtype


def _stage_of(name: str, engine: Engine) -> int:
    """The pipeline stage that holds a parameter."""
    stages = stage_blocks(engine.config.model, engine.groups.layout.pipeline)
    if name.startswith("body.embedding."):
        return 0
    if not name.startswith("body.blocks."):
        return len(stages) - 1
    number = int(name.split(".")[2])
    return next(stage for stage, blocks in enumerate(stages) if number in blocks)
