"""Phi-1.5: attention and feed-forward side by side, `x + attention(ln(x)) + ffn(ln(x))`.

Every Linear has a bias, and so has the head. Rotary embedding rotates a half of each head's dims
by default.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from training.models import parts
from training.models.parts import Attention, Block, Rotary
from training.models.shape import ModelShape


class PhiBlock(Block):
    """One layer: attention and feed-forward side by side from one LayerNorm."""

    def __init__(self, shape: ModelShape, layer: int) -> None:
        """Build the `layer`-th block (from 0, counted over the whole model)."""
        super().__init__(shape, layer, bias=True, output_bias=True)
        self.norm = phi_norm(shape)
        self.fc1 = nn.Linear(shape.hidden_size, shape.ffn_size)
        self.fc2 = nn.Linear(shape.ffn_size, shape.hidden_size)

    def forward(self, hidden: Tensor, rotary: Rotary, attention: Attention) -> Tensor:
        """Map `[sequences, tokens, hidden]` to the same shape."""
        normed = self.enter(self.norm(hidden))
        attended = self.attended(normed, rotary, attention)
        expanded = F.gelu(self.fc1(normed), approximate="tanh")
        return hidden + self.leave(attended + self.dropout(self.fc2(expanded)))


def phi_norm(shape: ModelShape) -> nn.Module:
    """The norm of the blocks, and of the last hidden states."""
    return nn.LayerNorm(shape.hidden_size, eps=shape.norm_eps)


NAMES = parts.NAMES | {
    "body.blocks.*.attention_output": "model.layers.*.self_attn.dense",
    "body.blocks.*.fc1": "model.layers.*.mlp.fc1",
    "body.blocks.*.fc2": "model.layers.*.mlp.fc2",
    "body.final_norm": "model.final_layernorm",
}
"""Hugging Face's name of each module; `*` is a block's number."""
