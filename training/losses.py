"""The two losses, each a weighted sum over supervised tokens.

Sums, not means: the loop divides by the weights of the whole step, so that accumulation,
ranks and packing never change the arithmetic.
"""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from training.models.attention import PackedAttention

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From the head's output, labels and weights to the weighted sum."""


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of each row of whole logits, `[rows]`."""
    return F.cross_entropy(logits, labels, reduction="none")


def language_model_loss(
    logits: Tensor,
    labels: Tensor,
    weights: Tensor,
    *,
    cross_entropy: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
) -> Tensor:
    """Weighted cross entropy, summed, in fp32.

    Args:
        logits: `[supervised, vocab]`.
        labels: the next token's id, `[supervised]`.
        weights: how much each counts, `[supervised]`.
        cross_entropy: of each row; another one where ranks share the vocabulary.
    """
    return torch.dot(cross_entropy(logits.float(), labels), weights)


def verifier_loss(scores: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted binary cross entropy of each token's score against its program's label, summed.

    The whole program's label supervises every token (arXiv 2312.09241, section 4.1). The
    paper does not name the loss; the logistic one makes a score a probability of being right.

    Args:
        scores: `[supervised]`.
        labels: 1.0 right, 0.0 wrong, `[supervised]`.
        weights: how much each counts, `[supervised]`.
    """
    return F.binary_cross_entropy_with_logits(
        scores.float(), labels.float(), weight=weights, reduction="sum"
    )


class MicroBatch(Protocol):
    """What a loss needs of some rows: `[rows, tokens]` each, on the CPU."""

    @property
    def tokens(self) -> Tensor:
        """Ids."""
        ...

    @property
    def positions(self) -> Tensor:
        """Each token's place in its own document."""
        ...

    @property
    def document_ids(self) -> Tensor:
        """Constant over each document; -1 = padding."""
        ...

    @property
    def labels(self) -> Tensor:
        """What each supervised position is to say."""
        ...

    @property
    def supervised(self) -> Tensor:
        """Which positions are."""
        ...

    @property
    def weights(self) -> Tensor:
        """How much each counts."""
        ...


def supervised(batch: MicroBatch, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Where a batch is supervised: places in the flattened rows, labels and weights there."""
    # Chosen on the CPU: a GPU would be waited for.
    places = batch.supervised.flatten().nonzero().flatten()
    found = (places, batch.labels.flatten()[places], batch.weights.flatten()[places])
    places, labels, weights = (values.to(device, non_blocking=True) for values in found)
    return places, labels, weights


def micro_batch_loss(
    model: Callable[..., Tensor], loss: Loss, batch: MicroBatch, device: torch.device
) -> Tensor:
    """The summed loss of one micro-batch; a zero that has gradients where none counts.

    Args:
        model: a headed model, called as `training.models.heads` says.
        loss: one of the above.
        batch: rows on the CPU.
        device: where the model is.
    """
    tokens, positions = (
        values.to(device, non_blocking=True) for values in (batch.tokens, batch.positions)
    )
    places, labels, weights = supervised(batch, device)
    attention = PackedAttention(batch.document_ids, device)
    return loss(model(tokens, positions, attention, at=places), labels, weights)
