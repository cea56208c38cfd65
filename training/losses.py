"""The two losses, each a sum over supervised tokens.

Sums, not means: the loop divides by the supervised tokens of the whole step, so that
accumulation, ranks and packing never change the arithmetic.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def language_model_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy, summed, in fp32.

    Args:
        logits: `[supervised, vocab]`.
        labels: the next token's id, `[supervised]`.
    """
    return F.cross_entropy(logits.float(), labels, reduction="sum")


def verifier_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Binary cross entropy of every token's score against its program's label, summed.

    The whole program's label supervises every token (arXiv 2312.09241, section 4.1). The
    paper does not name the loss; the logistic one makes a score a probability of being right.

    Args:
        scores: `[supervised]`.
        labels: 1.0 right, 0.0 wrong, `[supervised]`.
    """
    return F.binary_cross_entropy_with_logits(
        scores.float(), labels.to(scores.device, torch.float32), reduction="sum"
    )
