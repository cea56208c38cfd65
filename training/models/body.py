"""The body of a generator or verifier: embedding, blocks and the last norm, of any architecture.

    body = Body(ModelShape(hidden_size=192, num_layers=6, num_heads=3, ffn_size=768,
                           vocab_size=2048, max_tokens=512))
    hidden = body(tokens, positions, PackedAttention(batch.borders, longest=sequence_length))

`heads.py` adds a language-model or a verifier head; `attention.py` decides which tokens attend to
which. Building under `torch.device("meta")` allocates no memory.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.models.architectures import ARCHITECTURES
from training.models.parts import Attention, rotary_angles
from training.models.shape import ModelShape


class Body(nn.Module):
    """Embedding, blocks and the final norm."""

    def __init__(self, shape: ModelShape, *, checkpoint_activations: bool = False) -> None:
        """Build with torch's own initial values; give it initial values or load weights next.

        With `checkpoint_activations`, a training forward keeps only each block's input and
        recomputes the block in the backward pass.
        """
        super().__init__()
        architecture = ARCHITECTURES[shape.architecture]
        self.shape = shape
        self.checkpoint_activations = checkpoint_activations
        self.embedding = nn.Embedding(shape.vocab_size, shape.hidden_size)
        # By number, so that blocks keep their names in a pipeline stage that holds a few of them.
        self.blocks = nn.ModuleDict(
            {str(layer): architecture.block(shape, layer) for layer in range(shape.num_layers)}
        )
        self.final_norm = architecture.norm(shape)

    def compile_blocks(self) -> None:
        """Have torch.compile compile each block when it is first called; all share their graphs."""
        for block in self.blocks.values():
            block.compile()

    def forward(self, tokens: Tensor, positions: Tensor, attention: Attention) -> Tensor:
        """Hidden states `[sequences, tokens, hidden]` after the final norm.

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
