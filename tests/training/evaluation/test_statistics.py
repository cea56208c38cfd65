"""Every measure against counting by hand over all subsets, on small random cases."""

import json
import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from training.evaluation import statistics
from training.evaluation.statistics import (
    Outcomes,
    bootstrap,
    ks,
    majority_at_k,
    pass_at_k,
    ranking_keys,
    summarise,
    verify_at_k,
)

NUM_CANDIDATES = 7


def random_outcomes(num_questions: int = 12, num_candidates: int = NUM_CANDIDATES) -> Outcomes:
    """Ties in votes and scores, failures, unscored and all-failed questions among them."""
    draw = np.random.default_rng(3)
    group = draw.integers(-1, 4, (num_questions, num_candidates))
    group[0] = -1
    group = np.array([_renumbered(row) for row in group])
    right_group = draw.integers(0, 3, (num_questions, 1))
    score = draw.integers(0, 4, group.shape).astype(np.float64)
    score[draw.random(group.shape) < 0.15] = np.nan
    score[1] = np.nan
    return Outcomes(
        right=(group == right_group) & (group >= 0),
        group=group,
        score=score,
        greedy_right=draw.random(num_questions) < 0.5,
    )


def _renumbered(groups: np.ndarray) -> list[int]:
    names: dict[int, int] = {}
    return [-1 if g < 0 else names.setdefault(int(g), len(names)) for g in groups]


def test_ks_double_and_always_end_at_n():
    assert ks(1) == [1]
    assert ks(16) == [1, 2, 4, 8, 16]
    assert ks(48) == [1, 2, 4, 8, 16, 32, 48]


@pytest.mark.parametrize("k", range(1, NUM_CANDIDATES + 1))
def test_pass_at_k_is_the_fraction_of_subsets_with_a_right_one(k: int):
    right = random_outcomes().right
    wanted = [np.mean([any(row[list(s)]) for s in combinations(range(7), k)]) for row in right]
    assert pass_at_k(right, k) == pytest.approx(wanted, abs=1e-12)


def test_pass_at_k_is_the_published_formula_at_paper_scale():
    right = np.zeros((201, 200), bool)
    for count in range(201):
        right[count, :count] = True
    for k in (1, 10, 100, 200):
        wanted = [1 - math.comb(200 - c, k) / math.comb(200, k) for c in range(201)]
        assert pass_at_k(right, k) == pytest.approx(wanted, abs=1e-12)


def _majority(right: np.ndarray, group: np.ndarray, chosen: tuple[int, ...]) -> float:
    votes = Counter(int(group[i]) for i in chosen if group[i] >= 0)
    if not votes:
        return 0.0
    most = max(votes.values())
    winners = [g for g, count in votes.items() if count == most]
    return float(np.mean([right[list(group).index(g)] for g in winners]))


@pytest.mark.parametrize("k", range(1, NUM_CANDIDATES + 1))
def test_majority_at_k_is_the_mean_over_subsets(k: int):
    outcomes = random_outcomes()
    wanted = [
        np.mean([_majority(right, group, s) for s in combinations(range(7), k)])
        for right, group in zip(outcomes.right, outcomes.group, strict=True)
    ]
    assert majority_at_k(outcomes.right, outcomes.group, k) == pytest.approx(wanted, abs=1e-6)


def test_majority_from_random_subsets_is_close_and_repeats(monkeypatch: pytest.MonkeyPatch):
    outcomes = random_outcomes(300)
    exact = majority_at_k(outcomes.right, outcomes.group, 4)
    monkeypatch.setattr(statistics, "NUM_SUBSETS", 20)  # fewer than the 35 there are
    first = majority_at_k(outcomes.right, outcomes.group, 4, seed=1)
    again = majority_at_k(outcomes.right, outcomes.group, 4, seed=1)
    assert np.array_equal(first, again)
    # The standard error of a share over 20 of 35 subsets is below 0.1 per question.
    assert np.abs(first - exact).max() < 0.45
    assert abs(first.mean() - exact.mean()) < 0.03


def test_majority_is_not_right_before_the_first_vote():
    right = np.array([[False, False, True]])
    group = np.array([[-1, -1, 0]])
    assert majority_at_k(right, group, 1) == pytest.approx([1 / 3])
    assert majority_at_k(right, group, 3) == pytest.approx([1.0])


@pytest.mark.parametrize("k", range(1, NUM_CANDIDATES + 1))
def test_verify_at_k_is_the_best_of_every_subset(k: int):
    outcomes = random_outcomes()
    assert outcomes.score is not None
    keys = ranking_keys(outcomes.score, outcomes.group < 0)
    wanted: list[float] = []
    for key, right in zip(keys, outcomes.right, strict=True):
        shares: list[float] = []
        for subset in combinations(range(7), k):
            best = max(key[list(subset)])
            shares.append(float(np.mean([right[i] for i in subset if key[i] == best])))
        wanted.append(float(np.mean(shares)))
    assert verify_at_k(outcomes, k) == pytest.approx(wanted, abs=1e-12)


def test_verify_at_1_is_pass_at_1_whatever_the_scores():
    outcomes = random_outcomes()
    assert verify_at_k(outcomes, 1) == pytest.approx(pass_at_k(outcomes.right, 1))


def test_a_perfect_verifier_reaches_pass_at_k_and_a_duplicate_changes_no_choice():
    outcomes = random_outcomes()
    perfect = Outcomes(
        right=outcomes.right,
        group=outcomes.group,
        score=outcomes.right.astype(np.float64),
        greedy_right=outcomes.greedy_right,
    )
    for k in range(1, NUM_CANDIDATES + 1):
        assert verify_at_k(perfect, k) == pytest.approx(pass_at_k(perfect.right, k))
    best_twice = Outcomes(
        right=np.array([[True, True, False]]),
        group=np.array([[0, 0, 1]]),
        score=np.array([[0.9, 0.9, 0.1]]),
        greedy_right=np.array([False]),
    )
    assert verify_at_k(best_twice, 3) == pytest.approx([1.0])


def test_a_program_without_a_number_is_never_preferred():
    outcomes = Outcomes(
        right=np.array([[False, True, False]]),
        group=np.array([[-1, 0, 1]]),
        score=np.array([[9.0, 0.2, 0.1]]),
        greedy_right=np.array([True]),
    )
    assert verify_at_k(outcomes, 3) == pytest.approx([1.0])


@pytest.mark.parametrize("k", [0, 8])
def test_k_outside_the_candidates_is_refused(k: int):
    outcomes = random_outcomes()
    for measure in (
        lambda: pass_at_k(outcomes.right, k),
        lambda: majority_at_k(outcomes.right, outcomes.group, k),
        lambda: verify_at_k(outcomes, k),
    ):
        with pytest.raises(ValueError, match=f"k = {k}"):
            measure()


def test_bootstrap_covers_the_binomial_error():
    share, num_questions = 0.3, 1319
    values = np.zeros((num_questions, 1))
    values[: round(share * num_questions)] = 1
    (estimate,) = bootstrap(values, num_resamples=2000, seed=1)
    error = math.sqrt(share * (1 - share) / num_questions)
    assert estimate.value == pytest.approx(share, abs=1e-3)
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * error, rel=0.08)
    assert [estimate] == bootstrap(values, num_resamples=2000, seed=1)


def test_paired_differences_are_narrower_than_their_parts():
    draw = np.random.default_rng(0)
    before = (draw.random(500) < 0.5).astype(float)
    after = np.maximum(before, draw.random(500) < 0.1)
    first, _, gain = bootstrap(
        np.stack([before, after, after - before], axis=1), num_resamples=500, seed=1
    )
    assert 0 < gain.low < gain.value < gain.high
    assert gain.high - gain.low < 0.7 * (first.high - first.low)


def test_bootstrap_of_no_questions_is_refused():
    with pytest.raises(ValueError, match="no questions"):
        bootstrap(np.zeros((0, 2)), num_resamples=100, seed=1)


def test_summary_holds_every_measure_and_is_json():
    outcomes = random_outcomes(20, 6)
    operations = [2, 3, None, *[4] * 17]
    summary = summarise(outcomes, num_bootstrap=200, seed=1, operations=operations)
    assert summary == json.loads(json.dumps(summary))
    assert (summary["num_questions"], summary["num_candidates"]) == (20, 6)
    for name in ("pass_at_k", "majority_at_k", "verify_at_k"):
        assert list(summary[name]) == ["1", "2", "4", "6"]
        for estimate in summary[name].values():
            assert 0 <= estimate["low"] <= estimate["value"] <= estimate["high"] <= 1
    verified = summary["verify_at_k"]["6"]["value"]
    for name, other in (
        ("verify_minus_pass_at_1", summary["pass_at_1"]),
        ("verify_minus_sampled_pass_at_1", summary["pass_at_k"]["1"]),
        ("verify_minus_majority_at_n", summary["majority_at_k"]["6"]),
    ):
        assert summary[name]["value"] == pytest.approx(verified - other["value"])
    assert list(summary["by_operations"]) == ["2", "3", "4"]
    four = summary["by_operations"]["4"]
    assert four["num_questions"] == 17
    rows = outcomes.select(np.arange(3, 20))
    assert four["verify_at_n"]["value"] == pytest.approx(verify_at_k(rows, 6).mean())


def test_summary_without_a_verifier_says_nothing_of_it():
    outcomes = random_outcomes()
    plain = Outcomes(
        right=outcomes.right,
        group=outcomes.group,
        score=None,
        greedy_right=outcomes.greedy_right,
    )
    summary = summarise(plain, num_bootstrap=100, seed=1)
    assert not [name for name in summary if name.startswith(("verify", "by_"))]


def test_one_candidate_and_all_failed_are_measured_as_zero():
    outcomes = Outcomes(
        right=np.zeros((3, 1), bool),
        group=np.full((3, 1), -1),
        score=np.full((3, 1), np.nan),
        greedy_right=np.zeros(3, bool),
    )
    summary = summarise(outcomes, num_bootstrap=100, seed=1)
    assert summary["verify_at_k"] == {"1": {"value": 0.0, "low": 0.0, "high": 0.0}}
    assert summary["majority_at_k"]["1"]["value"] == 0
