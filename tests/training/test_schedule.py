"""The learning rate of every update, against an independent computation and transformers'."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from training.config import OptimizerConfig
from training.schedule import learning_rate


def _rates(max_steps: int = 12, **settings: object) -> list[float]:
    config = OptimizerConfig.model_validate({"learning_rate": 1.0, "warmup_steps": 4, **settings})
    return [learning_rate(step, max_steps=max_steps, optimizer=config) for step in range(max_steps)]


def test_warmup_is_linear_and_never_zero() -> None:
    assert _rates()[:4] == [0.25, 0.5, 0.75, 1.0]


def test_the_last_update_has_the_floor() -> None:
    rates = _rates(decay="linear", final_learning_rate_fraction=0.1)
    assert rates[3] == 1.0
    assert rates[7] == pytest.approx(0.55)
    assert rates[11] == pytest.approx(0.1)


def test_cosine_decay_is_half_way_at_half_time() -> None:
    rates = _rates(decay="cosine")
    assert rates[7] == pytest.approx(0.5)
    assert rates[11] == pytest.approx(0.0)


@pytest.mark.parametrize("max_steps", [2, 5, 12, 100])
@pytest.mark.parametrize("warmup", [0, 1, 4, 99])
@pytest.mark.parametrize("floor", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_rates_are_those_between_three_points(
    max_steps: int, warmup: int, floor: float, decay: str
) -> None:
    """Interpolated between (update 0, 0), (end of the warm-up, peak) and (last update, floor)."""
    if warmup >= max_steps:
        return  # the config refuses it
    updates = np.arange(1, max_steps + 1)
    peak_at = max(warmup, 1)
    expected = np.interp(updates, [0, peak_at, max_steps], [0.0, 1.0, floor])
    if decay == "cosine":
        # The same line bent: from the share of the decay that is left to half a cosine of it.
        after = updates > peak_at
        angle = np.pi * np.interp(updates[after], [peak_at, max_steps], [0.0, 1.0])
        expected[after] = floor + (1 - floor) * (np.cos(angle) + 1) / 2
    rates = _rates(max_steps, warmup_steps=warmup, final_learning_rate_fraction=floor, decay=decay)
    assert rates == pytest.approx(list(expected), abs=1e-12)
    assert rates.count(1.0) >= 1
    assert rates[-1] == pytest.approx(floor, abs=1e-12)


def _theirs(schedule: Any, max_steps: int, warmup: int) -> list[float]:
    """Rates by transformers; the first is that of its first update."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = schedule(optimizer, num_warmup_steps=warmup, num_training_steps=max_steps)
    rates: list[float] = []
    for _ in range(max_steps + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("decay", "schedule"),
    [("linear", get_linear_schedule_with_warmup), ("cosine", get_cosine_schedule_with_warmup)],
)
def test_ours_is_one_update_ahead_of_transformers(decay: str, schedule: Any) -> None:
    theirs = _theirs(schedule, 12, 4)
    assert theirs[0] == 0.0  # its first update moves nothing, and its last is above the floor
    assert theirs[11] > 0.01
    assert _rates(decay=decay) == pytest.approx(theirs[1:], abs=1e-12)


def test_constant_stays() -> None:
    assert set(_rates(decay="constant")[3:]) == {1.0}


@pytest.mark.parametrize("decay", ["linear", "cosine", "constant"])
def test_no_warmup_starts_at_the_peak(decay: str) -> None:
    assert _rates(warmup_steps=0, decay=decay)[0] == 1.0
    assert _rates(max_steps=1, warmup_steps=0, decay=decay) == [1.0]


def test_a_longer_run_follows_the_longer_schedule_from_where_it_resumes() -> None:
    """A rate is a function of the update and max_steps: no state of the shorter run is in it."""
    short, long = _rates(12), _rates(20)
    assert short[:4] == long[:4]
    assert short[11] == 0.0
    assert long[12:] == pytest.approx([(20 - update) / 16 for update in range(13, 21)])
