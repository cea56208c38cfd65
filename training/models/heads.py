"""The two heads on a Phi body: next-token logits, and one verifier score per position.

Both models are called `model(tokens, positions, attention, at=None)`. `at` picks
positions before the head is applied: logits over 51,200 tokens for every position of a
batch are the largest tensor of a training step, and only supervised positions need them.
"""

from torch import Tensor, nn

from training.models.phi import Attention, Phi, PhiShape


class _Headed(nn.Module):
    """A body and one Linear on top of it."""

    def __init__(self, shape: PhiShape, outputs: int, checkpoint_activations: bool) -> None:
        super().__init__()
        self.body = Phi(shape, checkpoint_activations=checkpoint_activations)
        # Where ranks that share the head's Linear exchange what they must.
        self.enter = nn.Identity()
        self.head = nn.Linear(shape.hidden_size, outputs)

    @property
    def shape(self) -> PhiShape:
        """The body's shape."""
        return self.body.shape

    def predict(self, hidden: Tensor, at: Tensor | None = None) -> Tensor:
        """The head on the body's `[rows, tokens, hidden]`: `[rows, tokens, outputs]`.

        With `at`, indices into the flattened `rows * tokens` positions: `[chosen, outputs]`.
        """
        hidden = self.enter(hidden)
        return self.head(hidden if at is None else hidden.flatten(0, 1)[at])


class LanguageModel(_Headed):
    """The generator: logits for the token after each position."""

    def __init__(self, shape: PhiShape, *, checkpoint_activations: bool = False) -> None:
        """Build with an untied head that has a bias, as Phi-1.5's."""
        super().__init__(shape, shape.vocab_size, checkpoint_activations)

    def forward(
        self, tokens: Tensor, positions: Tensor, attention: Attention, at: Tensor | None = None
    ) -> Tensor:
        """Logits `[rows, tokens, vocab]`, or `[chosen, vocab]` at the chosen positions.

        Args:
            tokens: ids, `[rows, tokens]`.
            positions: each token's place in its own document, `[rows, tokens]`.
            attention: who attends to whom.
            at: indices into, or a mask over, the flattened `rows * tokens` positions.
        """
        return self.predict(self.body(tokens, positions, attention), at)


class Verifier(_Headed):
    """Scores a program: one scalar head shared by all positions, no dropout on it."""

    def __init__(self, shape: PhiShape, *, checkpoint_activations: bool = False) -> None:
        """Build with a fresh head; the body usually takes a generator's weights next."""
        super().__init__(shape, 1, checkpoint_activations)

    def forward(
        self, tokens: Tensor, positions: Tensor, attention: Attention, at: Tensor | None = None
    ) -> Tensor:
        """Scores `[rows, tokens]`, or `[chosen]`; arguments as `LanguageModel`'s."""
        return self.predict(self.body(tokens, positions, attention), at)

    def predict(self, hidden: Tensor, at: Tensor | None = None) -> Tensor:
        """The head on the body's `[rows, tokens, hidden]`: scores without a last dim."""
        return super().predict(hidden, at).squeeze(-1)
