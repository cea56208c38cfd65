"""Puts a head on a Phi body: next-token logits, or one verifier score per position.

Both models are called as `model(tokens, positions, attention, at=None)`. `at` selects positions
before the head is applied: logits over 51,200 tokens at every position of a batch would be the
largest tensor of a training step, and only supervised positions need them.
"""

from torch import Tensor, nn

from training.models.phi import Attention, Phi, PhiShape


class _Headed(nn.Module):
    """A body and one Linear on top of it."""

    def __init__(self, shape: PhiShape, outputs: int, checkpoint_activations: bool) -> None:
        super().__init__()
        self.body = Phi(shape, checkpoint_activations=checkpoint_activations)
        # Replaced where ranks hold shards of the head's Linear and have to communicate.
        self.enter = nn.Identity()
        self.head = nn.Linear(shape.hidden_size, outputs)

    @property
    def shape(self) -> PhiShape:
        """The body's shape."""
        return self.body.shape

    def predict(self, hidden: Tensor, at: Tensor | None = None) -> Tensor:
        """Apply the head to `[sequences, tokens, hidden]`; returns `[sequences, tokens, outputs]`.

        With `at`, indices into the flattened `sequences * tokens` positions: `[chosen, outputs]`.
        """
        hidden = self.enter(hidden)
        return self.head(hidden if at is None else hidden.flatten(0, 1)[at])


class LanguageModel(_Headed):
    """The generator: logits for the token after each position."""

    def __init__(self, shape: PhiShape, *, checkpoint_activations: bool = False) -> None:
        """Build with an untied head that has a bias, as in Phi-1.5."""
        super().__init__(shape, shape.vocab_size, checkpoint_activations)

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


class Verifier(_Headed):
    """The verifier: a scalar score at each position, from one head without dropout."""

    def __init__(self, shape: PhiShape, *, checkpoint_activations: bool = False) -> None:
        """Build with a new head; the body is usually loaded from a generator next."""
        super().__init__(shape, 1, checkpoint_activations)

    def forward(
        self, tokens: Tensor, positions: Tensor, attention: Attention, at: Tensor | None = None
    ) -> Tensor:
        """Scores `[sequences, tokens]`, or `[chosen]`; arguments as `LanguageModel`'s."""
        return self.predict(self.body(tokens, positions, attention), at)

    def predict(self, hidden: Tensor, at: Tensor | None = None) -> Tensor:
        """Apply the head to `[sequences, tokens, hidden]`: `[sequences, tokens]`, or `[chosen]`."""
        return super().predict(hidden, at).squeeze(-1)
