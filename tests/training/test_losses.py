"""The two losses against torch's own, and what padding and weights do to them."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.data.micro_batch import MicroBatch, borders_of
from training.losses import (
    Loss,
    language_model_loss,
    micro_batch_loss,
    verifier_loss,
)
from training.models.heads import LanguageModel, Verifier
from training.models.shape import ModelShape

CPU = torch.device("cpu")
SHAPE = ModelShape(
    hidden_size=16, num_layers=1, num_heads=2, ffn_size=32, vocab_size=11, max_tokens=8
)


WEIGHTS = torch.tensor([[0.0, 0.5, 1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.25, 0.0, 0.0, 0.0]])
"""Of each position; 0 where nothing is supervised."""


def batch(labels: Tensor) -> MicroBatch:
    """Two packed sequences of 6 tokens; the second ends in padding."""
    draw = torch.Generator().manual_seed(1)
    document_ids = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, -1, -1]])
    return MicroBatch(
        tokens=torch.randint(11, (2, 6), generator=draw) * (document_ids >= 0),
        positions=torch.tensor([[0, 1, 2, 0, 1, 2], [0, 1, 2, 3, 0, 0]]),
        borders=borders_of(document_ids),
        **_supervised(labels, WEIGHTS),
    )


def _supervised(labels: Tensor, weights: Tensor) -> dict[str, Tensor]:
    at = weights.flatten().nonzero().flatten()
    return {
        "supervised": at,
        "labels": labels.flatten()[at],
        "weights": weights.flatten()[at],
    }


def token_labels() -> Tensor:
    return torch.randint(11, (2, 6), generator=torch.Generator().manual_seed(2))


def test_language_model_loss_is_a_weighted_sum_of_cross_entropies() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 11, generator=draw)
    labels = torch.randint(11, (5,), generator=draw)
    weights = torch.tensor([1.0, 0.5, 0.0, 2.0, 1.0])
    each = [F.cross_entropy(logits[i : i + 1], labels[i : i + 1]) for i in range(5)]
    expected = sum(float(w) * float(loss) for w, loss in zip(weights, each, strict=True))
    assert float(language_model_loss(logits, labels, weights)) == pytest.approx(expected)
    ones = torch.ones(5)
    assert float(language_model_loss(logits, labels, ones)) == pytest.approx(
        float(F.cross_entropy(logits, labels, reduction="sum"))
    )


def test_the_losses_are_computed_in_fp32() -> None:
    logits, weights = torch.randn(3, 11).bfloat16(), torch.ones(3)
    labels = torch.tensor([1, 2, 3])
    assert language_model_loss(logits, labels, weights).dtype == torch.float32
    assert torch.equal(
        language_model_loss(logits, labels, weights),
        language_model_loss(logits.float(), labels, weights),
    )
    assert verifier_loss(logits[:, 0], torch.ones(3), weights).dtype == torch.float32


def test_verifier_loss_is_minus_the_log_of_the_probability_of_the_label() -> None:
    scores, labels = torch.tensor([2.0, -1.0, 0.0]), torch.tensor([1.0, 1.0, 0.0])
    weights = torch.tensor([1.0, 0.5, 2.0])
    probability = torch.where(labels == 1, scores.sigmoid(), 1 - scores.sigmoid())
    expected = float(-(weights * probability.log()).sum())
    assert float(verifier_loss(scores, labels, weights)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("head", ["language_model", "verifier"])
def test_the_micro_batch_loss_is_that_of_each_document_alone(head: str) -> None:
    """Packing and padding change nothing: documents are computed one by one to compare."""
    torch.manual_seed(0)
    is_verifier = head == "verifier"
    model: nn.Module = (Verifier if is_verifier else LanguageModel)(SHAPE)
    loss: Loss = verifier_loss if is_verifier else language_model_loss
    labels = token_labels() % 2 * 1.0 if is_verifier else token_labels()
    made, expected = batch(labels), 0.0
    for sequence, start, stop in ((0, 0, 3), (0, 3, 6), (1, 0, 4)):
        here = (slice(sequence, sequence + 1), slice(start, stop))
        alone = MicroBatch(
            tokens=made.tokens[here],
            positions=made.positions[here],
            borders=torch.tensor([0, stop - start], dtype=torch.int32),
            **_supervised(labels[here], WEIGHTS[here]),
        )
        expected += float(micro_batch_loss(model, loss, alone, CPU))
    assert float(micro_batch_loss(model, loss, made, CPU)) == pytest.approx(expected, rel=1e-5)


def test_without_supervised_tokens_the_loss_is_zero_and_has_gradients() -> None:
    model = LanguageModel(SHAPE)
    made = batch(token_labels())
    nothing = _supervised(token_labels(), torch.zeros(2, 6))
    made = replace(made, **nothing)
    loss = micro_batch_loss(model, language_model_loss, made, CPU)
    assert float(loss) == 0.0
    loss.backward()
    assert all(
        value.grad is not None and not value.grad.any() for _, value in model.named_parameters()
    )
