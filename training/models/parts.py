"""What blocks of several architectures are made of: rotary embedding, attention, initial values.

There is no parallel code here, nor in the blocks. Head counts are read from tensor shapes, so the
code works unchanged when a Linear is replaced by one that holds some of the heads.
"""

import hashlib
import math
from typing import Protocol

import torch
from torch import Tensor, nn

from training.models.shape import ModelShape


class Attention(Protocol):
    """Decides which tokens attend to which: built once per micro-batch, called by every layer."""

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend.

        Args:
            layer: The block's number in the whole model.
            query: `[sequences, tokens, heads, head_dim]`.
            key, value: `[sequences, tokens, key_value_heads, head_dim]`; each of their heads
                serves `heads / key_value_heads` neighbouring heads of the queries.

        Returns:
            A tensor of the shape of `query`.
        """
        ...


Rotary = tuple[Tensor, Tensor]
"""Cosine and sine, each `[sequences, tokens, 1, rotary_dims / 2]`."""


def rotary_angles(shape: ModelShape, positions: Tensor, dtype: torch.dtype) -> Rotary:
    """Cosines and sines of rotary embedding (arXiv 2104.09864) for `[sequences, tokens]` positions.

    Computed in fp32 whatever the model's dtype: bf16 cannot represent all positions above 256.
    """
    angles = positions[..., None, None].float() * _frequencies(shape, positions.device)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _frequencies(shape: ModelShape, device: torch.device) -> Tensor:
    """Radians per position of each rotated pair, `[rotary_dims / 2]`."""
    dims, scaling = shape.rotary_dims, shape.rope_scaling
    exponents = torch.arange(0, dims, 2, dtype=torch.float32, device=device) / dims
    frequencies = shape.rope_theta**-exponents
    if scaling is None:
        return frequencies
    turns = frequencies * scaling.original_max_tokens / (2 * math.pi)
    span = scaling.high_freq_factor - scaling.low_freq_factor
    kept = ((turns - scaling.low_freq_factor) / span).clamp(0, 1)
    return frequencies * (kept + (1 - kept) / scaling.factor)


def rotate(heads: Tensor, rotary: Rotary) -> Tensor:
    """Rotate the leading dims of `[sequences, tokens, heads, head_dim]`, the two halves paired."""
    # Under autocast the hidden states, and so the angles, are fp32 while heads are bf16.
    cosine, sine = (part.to(heads.dtype) for part in rotary)
    half = cosine.shape[-1]
    first, second, rest = heads.split([half, half, heads.shape[-1] - 2 * half], dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine, rest), dim=-1)


class Block(nn.Module):
    """One layer: attention and a feed-forward network on the hidden states.

    Its Linears `query`, `key`, `value` and `attention_output` have the same names in every
    architecture. `forward` maps hidden states `[sequences, tokens, hidden]`, angles and an
    attention to the next hidden states. Between entering and leaving a region each rank may hold a
    shard of the Linears.
    """

    def __init__(self, shape: ModelShape, layer: int, *, bias: bool, output_bias: bool) -> None:
        """Build the `layer`-th block (from 0, counted over the whole model).

        Args:
            shape: The model's.
            layer: The block's number.
            bias: Whether queries, keys and values have one.
            output_bias: Whether the output of attention has one.
        """
        super().__init__()
        self.layer = layer
        self.head_dim = shape.head_dim
        hidden, width = shape.hidden_size, shape.num_heads * shape.head_dim
        narrow = shape.num_key_value_heads * shape.head_dim
        self.query = nn.Linear(hidden, width, bias=bias)
        self.key = nn.Linear(hidden, narrow, bias=bias)
        self.value = nn.Linear(hidden, narrow, bias=bias)
        self.attention_output = nn.Linear(width, hidden, bias=output_bias)
        self.dropout = nn.Dropout(shape.dropout)
        # Replaced where ranks hold shards of the Linears between the two and have to communicate.
        self.enter = nn.Identity()
        self.leave = nn.Identity()

    def heads(self, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, each `[sequences, tokens, heads, head_dim]`."""
        query, key, value = (
            project(normed).unflatten(-1, (-1, self.head_dim))
            for project in (self.query, self.key, self.value)
        )
        return query, key, value

    def attended(self, normed: Tensor, rotary: Rotary, attention: Attention) -> Tensor:
        """The output of attention, `[sequences, tokens, hidden]`, before `leave`."""
        query, key, value = self.heads(normed)
        found = attention(self.layer, rotate(query, rotary), rotate(key, rotary), value)
        return self.dropout(self.attention_output(found.flatten(-2)))


NAMES = {
    "body.embedding": "model.embed_tokens",
    "body.blocks.*.norm": "model.layers.*.input_layernorm",
    "body.blocks.*.query": "model.layers.*.self_attn.q_proj",
    "body.blocks.*.key": "model.layers.*.self_attn.k_proj",
    "body.blocks.*.value": "model.layers.*.self_attn.v_proj",
}
"""Hugging Face's names of the modules that it calls the same in every architecture; `*` is a
block's number."""


def initial_value(name: str, size: torch.Size, *, seed: int, std: float) -> Tensor:
    """The fp32 initial value of one whole parameter, on the CPU.

    It depends on the seed and the parameter's name alone, so that every parallel layout starts
    from the same whole tensors, in whichever order it builds them.
    """
    if name.endswith(".bias"):
        return torch.zeros(size)
    if "norm" in name:
        return torch.ones(size)
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return torch.empty(size).normal_(0.0, std, generator=generator)
