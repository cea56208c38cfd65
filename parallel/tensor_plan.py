"""Which modules of the models tensor parallelism shards, and how: a table for all architectures.

    tensor_plan("language_model")["body.blocks.*.query"]                 # Sharding.COLUMN
    shard_dim("body.blocks.7.fc2.weight", head="language_model")         # 1

The column-then-row pairs of Megatron (arXiv 1909.08053, section 3). `tensor.py` replaces modules
by it; each parameter is then marked with its dim, which `sharding.py` reads.
"""

import re
from collections.abc import Mapping
from enum import Enum


class Sharding(Enum):
    """How a module's parameters are divided among the ranks of a tensor group."""

    COLUMN = "column"
    """A Linear sharded along its outputs: each rank computes some heads or features."""
    ROW = "row"
    """A Linear sharded along its inputs: each rank computes one addend of the output."""
    VOCABULARY = "vocabulary"
    """An Embedding sharded along its rows: each rank looks up some of the tokens."""
    REPLICATED = "replicated"
    """Whole on every rank."""
    PER_HEAD = "per head"
    """Whole on every rank, and applied to each of its heads: gradients are summed."""


_BODY = {
    "body.embedding": Sharding.VOCABULARY,
    "body.blocks.*.norm": Sharding.REPLICATED,
    "body.blocks.*.query": Sharding.COLUMN,
    "body.blocks.*.key": Sharding.COLUMN,
    "body.blocks.*.value": Sharding.COLUMN,
    "body.blocks.*.attention_output": Sharding.ROW,
    "body.blocks.*.fc1": Sharding.COLUMN,
    "body.blocks.*.fc2": Sharding.ROW,
    "body.blocks.*.query_norm": Sharding.PER_HEAD,
    "body.blocks.*.key_norm": Sharding.PER_HEAD,
    "body.blocks.*.ffn_norm": Sharding.REPLICATED,
    "body.blocks.*.gate": Sharding.COLUMN,
    "body.blocks.*.up": Sharding.COLUMN,
    "body.blocks.*.down": Sharding.ROW,
    "body.final_norm": Sharding.REPLICATED,
}
# A verifier's head has a single output. One that is tied is sharded as the embedding, which gives
# the same logits on each rank.
_HEADS = {"language_model": Sharding.COLUMN, "verifier": Sharding.REPLICATED}

_DIMS: Mapping[Sharding, Mapping[str, int]] = {
    Sharding.COLUMN: {"weight": 0, "bias": 0},
    Sharding.ROW: {"weight": 1},
    Sharding.VOCABULARY: {"weight": 0},
    Sharding.REPLICATED: {},
    Sharding.PER_HEAD: {},
}
"""The dim that each sharded parameter of a module is sharded along."""


def tensor_plan(head: str) -> dict[str, Sharding]:
    """The sharding of every module that has parameters, by its name; `*` is a block's number."""
    return {**_BODY, "head": _HEADS[head]}


def sharding_of(module: str, head: str) -> Sharding | None:
    """The sharding of a module by its name in the model; None: it has no parameters of its own."""
    return tensor_plan(head).get(re.sub(r"(?<=\.)\d+(?=\.)", "*", module))


def shard_dim(parameter: str, head: str) -> int | None:
    """The dim that a parameter is sharded along, by its name in the model; None: replicated."""
    module, _, name = parameter.rpartition(".")
    sharding = sharding_of(module, head)
    return None if sharding is None else _DIMS[sharding].get(name)
