"""Verifier scores: those of each sequence alone, however they are packed."""

import numpy as np
import pytest
import torch

from tests.initial_values import initialise
from tests.training.evaluation import models
from training.evaluation.score import score
from training.lifecycle.signals import Stopped
from training.models.attention import causal_attention
from training.models.heads import Verifier
from training.models.shape import ModelShape

SHAPE = ModelShape(
    hidden_size=32, num_layers=2, num_heads=2, ffn_size=64, vocab_size=53, max_tokens=96
)


@pytest.fixture(scope="module")
def verifier() -> Verifier:
    built = Verifier(SHAPE)
    initialise(built, seed=0, std=0.3)
    return built


def sequences() -> list[list[int]]:
    generator = np.random.default_rng(0)
    drawn = [generator.integers(0, 53, length).tolist() for length in (9, 1, 30, 4, 17, 40, 2)]
    return [*drawn, drawn[2], drawn[0]]


@pytest.mark.parametrize("max_batch_tokens", [1, 41, 16_384])
def test_score_is_the_last_tokens_scalar(verifier: Verifier, max_batch_tokens: int) -> None:
    expected: list[float] = []
    with torch.no_grad():
        for sequence in sequences():
            tokens = torch.tensor([sequence])
            positions = torch.arange(len(sequence))[None]
            expected.append(float(verifier(tokens, positions, causal_attention)[0, -1]))
    actual = score(verifier, sequences(), max_batch_tokens=max_batch_tokens)
    # fp32 sums in another order.
    assert actual == pytest.approx(expected, abs=1e-5)


def test_equal_sequences_score_equal(verifier: Verifier) -> None:
    scores = score(verifier, sequences())
    assert scores[2] == scores[7]
    assert scores[0] == scores[8]


def test_nothing_to_score(verifier: Verifier) -> None:
    assert score(verifier, []) == []
    with pytest.raises(ValueError, match="no tokens"):
        score(verifier, [[1], []])


def test_a_safe_point_lies_before_every_forward(verifier: Verifier) -> None:
    leave = models.LeavesAt(3)
    with pytest.raises(Stopped):
        score(verifier, sequences(), max_batch_tokens=1, check_cancelled=leave)
    assert leave.calls == 3
