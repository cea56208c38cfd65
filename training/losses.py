"""The two losses, each a weighted sum over supervised tokens.

Sums, not means: the loop divides by the weights of the whole step, so that accumulation,
ranks and packing never change the arithmetic.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def language_model_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross entropy, summed, in fp32.

    Args:
        logits: `[supervised, vocab]`.
        labels: the next token's id, `[supervised]`.
        weights: how much each counts, `[supervised]`.
    """
    return torch.dot(F.cross_entropy(logits.float(), labels, reduction="none"), weights)


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
