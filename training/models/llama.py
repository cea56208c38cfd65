"""Llama (SmolLM2, Llama 3.2, TinyLlama), and what Qwen shares with it.

`h = x + attention(norm(x))`, then `h + ffn(norm(h))`, with RMSNorm, a gated feed-forward network
(SwiGLU, arXiv 2002.05202) and no biases. Heads of keys and values may serve several query heads.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from training.models import parts
from training.models.parts import Attention, Block, Rotary
from training.models.shape import ModelShape


class LlamaBlock(Block):
    """One layer: attention, then a gated feed-forward network, each with a norm before it."""

    def __init__(self, shape: ModelShape, layer: int, *, bias: bool = False) -> None:
        """Build the `layer`-th block; `bias`: of queries, keys and values."""
        super().__init__(shape, layer, bias=bias, output_bias=False)
        hidden, ffn = shape.hidden_size, shape.ffn_size
        self.norm = llama_norm(shape)
        self.ffn_norm = llama_norm(shape)
        self.gate = nn.Linear(hidden, ffn, bias=False)
        self.up = nn.Linear(hidden, ffn, bias=False)
        self.down = nn.Linear(ffn, hidden, bias=False)

    def forward(self, hidden: Tensor, rotary: Rotary, attention: Attention) -> Tensor:
        """Map `[sequences, tokens, hidden]` to the same shape."""
        normed = self.enter(self.norm(hidden))
        hidden = hidden + self.leave(self.attended(normed, rotary, attention))
        normed = self.enter(self.ffn_norm(hidden))
        gated = F.silu(self.gate(normed)) * self.up(normed)
        return hidden + self.leave(self.dropout(self.down(gated)))


def llama_norm(shape: ModelShape) -> nn.Module:
    """The norm of the blocks, and of the last hidden states."""
    return nn.RMSNorm(shape.hidden_size, eps=shape.norm_eps)


NAMES = parts.NAMES | {
    "body.blocks.*.attention_output": "model.layers.*.self_attn.o_proj",
    "body.blocks.*.ffn_norm": "model.layers.*.post_attention_layernorm",
    "body.blocks.*.gate": "model.layers.*.mlp.gate_proj",
    "body.blocks.*.up": "model.layers.*.mlp.up_proj",
    "body.blocks.*.down": "model.layers.*.mlp.down_proj",
    "body.final_norm": "model.norm",
}
"""Hugging Face's name of each module; `*` is a block's number."""
