"""Whole weights out of a sharded run, one block at a time.

Feeds checkpoints' Hugging Face folders and the replica that in-training evaluation
samples with. At most one block is held whole above the shards, so it costs no more
memory than that under ZeRO-3. Every rank must walk the stream to its end.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from parallel.engine import Engine


def whole_weights(engine: Engine) -> Iterator[tuple[str, Tensor]]:
    """Name and whole tensor of every parameter, block by block.

    The tensors are lent: copy what is to be kept before asking for the next one.
    """
    for prefix, module in _blocks(engine.module):
        named = [(f"{prefix}{name}", value) for name, value in module.named_parameters()]
        with engine.whole([value for _, value in named]):
            for name, value in named:
                yield name, value.detach()


@torch.no_grad()
def fill(replica: nn.Module, engine: Engine) -> None:
    """Copy the engine's whole weights into a plain model of the same names."""
    parameters = dict(replica.named_parameters())
    for name, value in whole_weights(engine):
        parameters[name].copy_(value)


def _blocks(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The model cut at its lists of blocks: each entry, then each module beside the lists."""
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList):
            for index, block in enumerate(child):
                yield f"{name}.{index}.", block
        elif any(isinstance(grandchild, nn.ModuleList) for grandchild in child.children()):
            for inner, block in _blocks(child):
                yield f"{name}.{inner}", block
        else:
            yield f"{name}.", child
