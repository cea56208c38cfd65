"""Implements Phi-1.5's architecture in plain torch: the body of both generator and verifier.

A block computes `x + attention(ln(x)) + ffn(ln(x))` with a single LayerNorm. Rotary position
embedding rotates only the leading dims of each head (half of them by default). Every Linear has a
bias. `heads.py` adds a language-model or a verifier head; `attention.py` decides which tokens
attend to which.

    body = Phi(PhiShape(hidden_size=192, num_layers=6, num_heads=3, ffn_size=768,
                        vocab_size=2048, max_tokens=512))
    hidden = body(tokens, positions, PackedAttention(batch.borders, longest=sequence_length))

There is no parallel code here. Head counts are read from tensor shapes, so the code works
unchanged when a Linear is replaced by one that holds some of the heads. Building under
`torch.device("meta")` allocates no memory.
"""

import hashlib
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True, kw_only=True)
class PhiShape:
    """The sizes and constants that determine a Phi model's tensors and arithmetic."""

    hidden_size: int
    num_layers: int
    num_heads: int
    ffn_size: int
    vocab_size: int
    """Rows of the embedding; at least the tokenizer's size."""
    max_tokens: int
    """The longest sequence the model is meant for. Rotary embedding imposes no hard limit."""
    rotary_fraction: float = 0.5
    """The fraction of each head's dims that is rotated."""
    rope_theta: float = 10_000.0
    layer_norm_eps: float = 1e-5
    init_std: float = 0.02
    dropout: float = 0.0
    """On the output of attention and feed-forward, while training."""

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def rotary_dims(self) -> int:
        """How many leading dims of each head are rotated."""
        return int(self.head_dim * self.rotary_fraction)


class Attention(Protocol):
    """Decides which tokens attend to which: built once per micro-batch, called by every layer."""

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend; query, key, value and result are `[sequences, tokens, heads, head_dim]`."""
        ...


Rotary = tuple[Tensor, Tensor]
"""Cosine and sine, each `[sequences, tokens, 1, rotary_dims / 2]`."""


def rotary_angles(shape: PhiShape, positions: Tensor, dtype: torch.dtype) -> Rotary:
    """Cosines and sines of rotary embedding (arXiv 2104.09864) for `[sequences, tokens]` positions.

    Computed in fp32 whatever the model's dtype: bf16 cannot represent all positions above 256.
    """
    dims = shape.rotary_dims
    exponents = torch.arange(0, dims, 2, dtype=torch.float32, device=positions.device) / dims
    angles = positions[..., None, None].float() * shape.rope_theta**-exponents
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(heads: Tensor, rotary: Rotary) -> Tensor:
    """Rotate the leading dims of `[sequences, tokens, heads, head_dim]`, the two halves paired."""
    # Under autocast the hidden states, and so the angles, are fp32 while heads are bf16.
    cosine, sine = (part.to(heads.dtype) for part in rotary)
    half = cosine.shape[-1]
    first, second, rest = heads.split([half, half, heads.shape[-1] - 2 * half], dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine, rest), dim=-1)


class Block(nn.Module):
    """One layer: attention and feed-forward side by side from one LayerNorm."""

    def __init__(self, shape: PhiShape, layer: int) -> None:
        """Build the `layer`-th block (from 0, counted over the whole model)."""
        super().__init__()
        self.layer = layer
        self.head_dim = shape.head_dim
        width = shape.num_heads * shape.head_dim
        self.norm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)
        self.query = nn.Linear(shape.hidden_size, width)
        self.key = nn.Linear(shape.hidden_size, width)
        self.value = nn.Linear(shape.hidden_size, width)
        self.attention_output = nn.Linear(width, shape.hidden_size)
        self.fc1 = nn.Linear(shape.hidden_size, shape.ffn_size)
        self.fc2 = nn.Linear(shape.ffn_size, shape.hidden_size)
        self.dropout = nn.Dropout(shape.dropout)
        # Replaced where ranks hold shards of the Linears between the two and have to communicate.
        self.enter = nn.Identity()
        self.leave = nn.Identity()

    def forward(self, hidden: Tensor, rotary: Rotary, attention: Attention) -> Tensor:
        """Map `[sequences, tokens, hidden]` to the same shape."""
        normed = self.enter(self.norm(hidden))
        query, key, value = (
            project(normed).unflatten(-1, (-1, self.head_dim))
            for project in (self.query, self.key, self.value)
        )
        attended = attention(self.layer, rotate(query, rotary), rotate(key, rotary), value)
        expanded = F.gelu(self.fc1(normed), approximate="tanh")
        return hidden + self.leave(
            self.dropout(self.attention_output(attended.flatten(-2)))
            + self.dropout(self.fc2(expanded))
        )


class Phi(nn.Module):
    """Embedding, blocks and the final LayerNorm."""

    def __init__(self, shape: PhiShape, *, checkpoint_activations: bool = False) -> None:
        """Build with torch's own initial values; give it initial values or load weights next.

        With `checkpoint_activations`, a training forward keeps only each block's input and
        recomputes the block in the backward pass.

        Raises:
            ValueError: the hidden size is not a multiple of the number of heads, or an odd number
                of dims of each head would be rotated.
        """
        super().__init__()
        if shape.hidden_size % shape.num_heads:
            raise ValueError(
                f"hidden_size {shape.hidden_size} is not a multiple of num_heads {shape.num_heads}"
            )
        if shape.rotary_dims % 2:
            raise ValueError(
                f"rotary_fraction {shape.rotary_fraction} of head width {shape.head_dim} gives "
                f"{shape.rotary_dims} rotated dims: they are rotated in pairs, so make it even"
            )
        self.shape = shape
        self.checkpoint_activations = checkpoint_activations
        self.embedding = nn.Embedding(shape.vocab_size, shape.hidden_size)
        # By number, so that blocks keep their names in a pipeline stage that holds a few of them.
        self.blocks = nn.ModuleDict(
            {str(layer): Block(shape, layer) for layer in range(shape.num_layers)}
        )
        self.final_norm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)

    def compile_blocks(self) -> None:
        """Have torch.compile compile each block when it is first called; all share their graphs."""
        for block in self.blocks.values():
            block.compile()

    def forward(self, tokens: Tensor, positions: Tensor, attention: Attention) -> Tensor:
        """Hidden states `[sequences, tokens, hidden]` after the final LayerNorm.

        Args:
            tokens: ids, `[sequences, tokens]`.
            positions: each token's position in its own document, `[sequences, tokens]`.
            attention: which tokens attend to which.
        """
        return self.final_norm(self.run(self.embedding(tokens), positions, attention))

    def run(self, hidden: Tensor, positions: Tensor, attention: Attention) -> Tensor:
        """Apply the blocks in order to `[sequences, tokens, hidden]`."""
        rotary = rotary_angles(self.shape, positions, hidden.dtype)
        for block in self.blocks.values():
            if self.checkpoint_activations and self.training and torch.is_grad_enabled():
                hidden = checkpoint(block, hidden, rotary, attention, use_reentrant=False)
            else:
                hidden = block(hidden, rotary, attention)
        return hidden


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
