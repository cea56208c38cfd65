"""Puts a head on a body: next-token logits, or one verifier score per position.

Both models are called as `model(tokens, positions, attention, at=None)`. `at` selects positions
before the head is applied: logits over 51,200 tokens at every position of a batch would be the
largest tensor of a training step, and only supervised positions need them.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from training.models.architectures import ARCHITECTURES
from training.models.body import Body
from training.models.parts import Attention
from training.models.shape import ModelShape


class _Headed(nn.Module):
    """A body and one Linear on top of it, which may be the embedding's matrix."""

    head: nn.Linear
    """Absent where the head is the embedding's matrix."""

    def __init__(self, shape: ModelShape, checkpoint_activations: bool) -> None:
        super().__init__()
        self.body = Body(shape, checkpoint_activations=checkpoint_activations)
        # Replaced where ranks hold shards of the head's Linear and have to communicate.
        self.enter = nn.Identity()

    @property
    def shape(self) -> ModelShape:
        """The body's shape."""
        return self.body.shape

    def predict(self, hidden: Tensor, at: Tensor | None = None) -> Tensor:
        """Apply the head to `[sequences, tokens, hidden]`; returns `[sequences, tokens, outputs]`.

        With `at`, indices into the flattened `sequences * tokens` positions: `[chosen, outputs]`.
        """
        hidden = self.enter(hidden)
        return self.outputs(hidden if at is None else hidden.flatten(0, 1)[at])

    def outputs(self, hidden: Tensor) -> Tensor:
        """Map `[..., hidden]` to `[..., outputs]`."""
        return self.head(hidden)


class LanguageModel(_Headed):
    """The generator: logits for the token after each position."""

    def __init__(self, shape: ModelShape, *, checkpoint_activations: bool = False) -> None:
        """Build with the head of the architecture."""
        super().__init__(shape, checkpoint_activations)
        bias = ARCHITECTURES[shape.architecture].head_bias
        if not shape.tied_head:
            self.head = nn.Linear(shape.hidden_size, shape.vocab_size, bias=bias)

    def forward(
        self, tokens: Tensor, positions: Tensor, attention: Attention, at: Tensor | None = None
    ) -> Tensor:
        """Logits `[sequences, tokens, vocab]`, or `[chosen, vocab]` at the chosen positions.

        Args:
            tokens: ids, `[sequences, tokens]`.
            positions: each token's position in its own document, `[sequences, tokens]`.
            attention: which tokens attend to which.
            at: indices into, or a mask over, the flattened `sequences * tokens` positions.
        """
        return self.predict(self.body(tokens, positions, attention), at)

    def outputs(self, hidden: Tensor) -> Tensor:
        """Map `[..., hidden]` to logits `[..., vocab]`."""
        if self.shape.tied_head:
            return F.linear(hidden, self.body.embedding.weight)
        return self.head(hidden)


class Verifier(_Headed):
    """The verifier: a scalar score at each position, from one head without dropout or bias.

    So it is what transformers calls a sequence classifier with one label.
    """

    def __init__(self, shape: ModelShape, *, checkpoint_activations: bool = False) -> None:
        """Build with a new head; the body is usually loaded from a generator next."""
        super().__init__(shape, checkpoint_activations)
        self.head = nn.Linear(shape.hidden_size, 1, bias=False)

    def forward(
        self, tokens: Tensor, positions: Tensor, attention: Attention, at: Tensor | None = None
    ) -> Tensor:
        """Scores `[sequences, tokens]`, or `[chosen]`; arguments as `LanguageModel`'s."""
        return self.predict(self.body(tokens, positions, attention), at)

    def predict(self, hidden: Tensor, at: Tensor | None = None) -> Tensor:
        """Apply the head to `[sequences, tokens, hidden]`: `[sequences, tokens]`, or `[chosen]`."""
        return super().predict(hidden, at).squeeze(-1)
