"""The learning rate's shape at its corners."""

import pytest

from training.config import OptimizerConfig
from training.schedule import learning_rate


def _rates(**settings: object) -> list[float]:
    config = OptimizerConfig.model_validate({"learning_rate": 1.0, "warmup_steps": 4, **settings})
    return [learning_rate(step, max_steps=12, optimizer=config) for step in range(13)]


def test_warmup_is_linear_and_never_zero() -> None:
    assert _rates()[:4] == [0.25, 0.5, 0.75, 1.0]


def test_linear_decay_ends_at_the_final_fraction() -> None:
    rates = _rates(decay="linear", final_learning_rate_fraction=0.1)
    assert rates[4] == 1.0
    assert rates[8] == pytest.approx(0.55)
    assert rates[12] == pytest.approx(0.1)


def test_cosine_decay_is_half_way_at_half_time() -> None:
    rates = _rates(decay="cosine")
    assert rates[8] == pytest.approx(0.5)
    assert rates[12] == pytest.approx(0.0)


def test_constant_stays() -> None:
    assert set(_rates(decay="constant")[4:]) == {1.0}


def test_no_warmup_starts_at_the_peak() -> None:
    assert _rates(warmup_steps=0)[0] == 1.0
