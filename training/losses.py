"""The two losses, each a weighted sum over supervised tokens.

Sums, not means: the trainer divides by the loss normalizer, the sum of the weights of the whole
step, so that accumulation, data-parallel size and packing never change the arithmetic.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from training.data.micro_batch import MicroBatch
from training.models.attention import PackedAttention

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From the head's output, labels and weights to the weighted sum."""


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy per token, `[tokens]`, of logits over the whole vocabulary."""
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
        weights: of each token, `[supervised]`.
        cross_entropy: per token; another one where tensor-parallel ranks share the vocabulary.
    """
    return torch.dot(cross_entropy(logits.float(), labels), weights)


def verifier_loss(scores: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted binary cross entropy of each token's score against its program's label, summed.

    The whole program's label supervises every token (arXiv 2312.09241, section 4.1). The
    paper does not name the loss; the logistic one makes a score a probability of being right.

    Args:
        scores: `[supervised]`.
        labels: 1.0 right, 0.0 wrong, `[supervised]`.
        weights: of each token, `[supervised]`.
    """
    return F.binary_cross_entropy_with_logits(
        scores.float(), labels.float(), weight=weights, reduction="sum"
    )


def micro_batch_loss(
    model: Callable[..., Tensor], loss: Loss, batch: MicroBatch, device: torch.device
) -> Tensor:
    """The summed loss of one micro-batch; without supervised tokens, a zero with gradients.

    Args:
        model: a model with a head, called as `training.models.heads` says.
        loss: one of the above.
        batch: packed sequences, anywhere.
        device: where the model is.
    """
    there = batch.to(device)
    attention = PackedAttention(there.borders, longest=there.tokens.shape[1])
    found = model(there.tokens, there.positions, attention, at=there.supervised)
    return loss(found, there.labels, there.weights)
