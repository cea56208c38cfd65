"""Qwen2.5 (biases on queries, keys and values) and Qwen3 (a norm of each query and key head)."""

from torch import Tensor, nn

from training.models import llama
from training.models.shape import ModelShape


class Qwen2Block(llama.LlamaBlock):
    """Llama's, with biases on queries, keys and values."""

    def __init__(self, shape: ModelShape, layer: int) -> None:
        """Build the `layer`-th block (from 0, counted over the whole model)."""
        super().__init__(shape, layer, bias=True)


class Qwen3Block(llama.LlamaBlock):
    """Llama's, with an RMSNorm of each head of queries and keys before they are rotated."""

    def __init__(self, shape: ModelShape, layer: int) -> None:
        """Build the `layer`-th block (from 0, counted over the whole model)."""
        super().__init__(shape, layer)
        self.query_norm = nn.RMSNorm(shape.head_dim, eps=shape.norm_eps)
        self.key_norm = nn.RMSNorm(shape.head_dim, eps=shape.norm_eps)

    def heads(self, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, each `[sequences, tokens, heads, head_dim]`."""
        query, key, value = super().heads(normed)
        return self.query_norm(query), self.key_norm(key), value


QWEN2_NAMES = llama.NAMES
QWEN3_NAMES = llama.NAMES | {
    "body.blocks.*.query_norm": "model.layers.*.self_attn.q_norm",
    "body.blocks.*.key_norm": "model.layers.*.self_attn.k_norm",
}
"""Hugging Face's name of each module; `*` is a block's number."""
