"""Measures of a set of judged candidates: pass@k, majority@k, verify@k, with intervals.

Pure functions over arrays `[questions, candidates]`; every measure is one value in [0, 1]
per question, so that means, differences and resamples need no more than the values.

    outcomes = Outcomes(right=..., group=..., score=..., greedy_right=...)
    summary = summarise(outcomes, num_bootstrap=2000, seed=1)

All measures of a set use the same candidates and, for intervals, the same resampled
questions: a difference of two measures is paired.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

NUM_SUBSETS = 256
"""Random k-subsets behind majority@k where there are more than that; all of them otherwise."""
_QUESTIONS_AT_ONCE = 256
_RESAMPLES_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What is counted about the candidates of a question set."""

    right: NDArray[np.bool_]
    """`[questions, candidates]`: the program's number equals gold."""
    group: NDArray[np.int64]
    """`[questions, candidates]`: candidates of a question with equal numbers share a group,
    numbered from 0; -1 for a program without a number."""
    score: Values | None
    """`[questions, candidates]`: the verifier's scores, NaN where there is none; None
    without a verifier."""
    greedy_right: NDArray[np.bool_]
    """`[questions]`: whether the greedy program is right."""

    def __post_init__(self) -> None:
        assert self.right.shape == self.group.shape, (self.right.shape, self.group.shape)
        assert self.score is None or self.score.shape == self.right.shape
        assert self.greedy_right.shape == self.right.shape[:1]

    @property
    def num_questions(self) -> int:
        """Rows."""
        return self.right.shape[0]

    @property
    def num_candidates(self) -> int:
        """Sampled candidates per question; the greedy program is not one of them."""
        return self.right.shape[1]

    def select(self, rows: NDArray[np.int64]) -> "Outcomes":
        """The outcomes of the questions in these rows, in their order."""
        return Outcomes(
            right=self.right[rows],
            group=self.group[rows],
            score=None if self.score is None else self.score[rows],
            greedy_right=self.greedy_right[rows],
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over questions with its 95 % interval."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        """The three numbers by name."""
        return {"value": self.value, "low": self.low, "high": self.high}


def ks(num_candidates: int) -> list[int]:
    """1, 2, 4, ... and `num_candidates` itself."""
    powers = [1 << power for power in range(num_candidates.bit_length())]
    return [k for k in powers if k < num_candidates] + [num_candidates]


def pass_at_k(right: NDArray[np.bool_], k: int) -> Values:
    """Chance that k of the candidates, drawn without replacement, hold a right one.

    The unbiased estimate of Chen et al. 2021 (arXiv 2107.03374, section 2.1),
    1 - C(n - c, k) / C(n, k), as a product that neither overflows nor cancels.
    """
    num_candidates = right.shape[1]
    _check(k, num_candidates)
    drawn = np.arange(k)
    num_wrong = num_candidates - np.arange(num_candidates + 1)
    none_right = np.prod(
        np.clip(num_wrong[:, None] - drawn, 0, None) / (num_candidates - drawn), axis=1
    )
    return (1.0 - none_right)[right.sum(axis=1)]


def majority_at_k(
    right: NDArray[np.bool_], group: NDArray[np.int64], k: int, *, seed: int = 0
) -> Values:
    """Chance that the most frequent number among k of the candidates is right.

    Programs without a number do not vote; with no vote at all there is no right answer.
    A tie is shared evenly among its numbers: what taking the one that was written first
    gives on average over the order of writing. A number is right as its first candidate is.

    The mean over all k-subsets where there are at most `NUM_SUBSETS`, else over that many
    random ones, the same for every question.
    """
    num_questions, num_candidates = right.shape
    _check(k, num_candidates)
    subsets = _subsets(num_candidates, k, seed)
    num_groups = int(group.max(initial=-1)) + 1
    values = np.zeros(num_questions)
    if not num_groups:
        return values
    for start in range(0, num_questions, _QUESTIONS_AT_ONCE):
        rows = slice(start, start + _QUESTIONS_AT_ONCE)
        member = group[rows, :, None] == np.arange(num_groups)
        group_right = np.take_along_axis(right[rows], member.argmax(axis=1), axis=1)
        votes = subsets @ member.astype(np.float32)  # [questions, subsets, groups]
        most = votes.max(axis=2, keepdims=True)
        winners = (votes == most) & (most > 0)
        num_right = np.einsum("qsg,qg->qs", winners, group_right, dtype=np.float64)
        right_fraction = num_right / np.maximum(winners.sum(axis=2), 1)
        values[rows] = right_fraction.mean(axis=1)
    return values


def at_n(outcomes: Outcomes, *, seed: int = 0) -> dict[str, Values]:
    """Each question's value of every measure, of all N candidates where it takes several."""
    num_candidates = outcomes.num_candidates
    values = {
        "pass_at_1": _greedy(outcomes),
        "sampled_pass_at_1": pass_at_k(outcomes.right, 1),
        "pass_at_n": pass_at_k(outcomes.right, num_candidates),
        "majority_at_n": majority_at_k(outcomes.right, outcomes.group, num_candidates, seed=seed),
    }
    if outcomes.score is not None:
        values["verify_at_n"] = verify_at_k(outcomes, num_candidates)
    return values


def verify_at_k(outcomes: Outcomes, k: int) -> Values:
    """Chance that the verifier's choice among k of the candidates is right.

    Exact: sorted by score, the candidate of rank r (from 0) is the best of a random
    k-subset of n with probability C(n - 1 - r, k - 1) / C(n, k). Equal scores share
    their ranks evenly, so duplicates of a program change nothing. Programs without a score rank
    below all scored ones, and programs without a number below those; neither needs gold.
    """
    assert outcomes.score is not None, "verify@k needs scores"
    num_questions, num_candidates = outcomes.right.shape
    _check(k, num_candidates)
    if not num_questions:
        return np.zeros(0)
    chance = np.zeros(num_candidates)
    chance[0] = k / num_candidates
    for rank in range(num_candidates - k):
        chance[rank + 1] = chance[rank] * (num_candidates - k - rank) / (num_candidates - 1 - rank)
    keys = ranking_keys(outcomes.score, outcomes.group < 0)
    order = np.argsort(-keys, axis=1, kind="stable")
    keys = np.take_along_axis(keys, order, axis=1)
    right = np.take_along_axis(outcomes.right, order, axis=1)
    # Number the runs of equal keys over the whole array, and give each its mean.
    starts = np.ones_like(right)
    starts[:, 1:] = keys[:, 1:] != keys[:, :-1]
    run = np.cumsum(starts.ravel()) - 1
    mean_right = np.bincount(run, weights=right.ravel()) / np.bincount(run)
    return mean_right[run].reshape(right.shape) @ chance


def ranking_keys(score: Values, has_no_number: NDArray[np.bool_]) -> Values:
    """What selection sorts by, highest first: scores, then unscored, then numberless ones."""
    keys = np.where(np.isnan(score), np.finfo(np.float64).min, score)
    return np.where(has_no_number, -np.inf, keys)


def bootstrap(values: Values, *, num_resamples: int, seed: int) -> list[Estimate]:
    """Mean over questions of every column of `[questions, measures]`, with its interval.

    The 2.5th and 97.5th percentile of the means over `num_resamples` resamples of the
    questions (Efron's percentile interval). Columns share resamples. Where all questions
    agree the interval has no width, which does not make the measure certain on other questions.
    """
    num_questions, num_measures = values.shape
    if not num_questions:
        raise ValueError("there are no questions to resample")
    generator = np.random.default_rng(seed)
    means = np.empty((num_resamples, num_measures))
    for start in range(0, num_resamples, _RESAMPLES_AT_ONCE):
        rows = min(_RESAMPLES_AT_ONCE, num_resamples - start)
        counts = generator.multinomial(
            num_questions, np.full(num_questions, 1 / num_questions), size=rows
        )
        means[start : start + rows] = counts @ values / num_questions
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    middle = values.mean(axis=0)
    # A column of equal values must not leave its own interval by a rounding error.
    low, high = np.minimum(low, middle), np.maximum(high, middle)
    return [
        Estimate(float(v), float(a), float(b)) for v, a, b in zip(middle, low, high, strict=True)
    ]


def summarise(
    outcomes: Outcomes,
    *,
    num_bootstrap: int,
    seed: int,
    operations: Sequence[int | None] = (),
) -> dict[str, Any]:
    """All measures of a question set as JSON-ready data, each with value, low and high.

    Args:
        outcomes: The judged candidates.
        num_bootstrap: Resamples behind each interval.
        seed: Seeds subsets and resamples: the same numbers every time.
        operations: How many operations each question needs, where that is known; adds
            `by_operations`.
    """
    num_candidates = outcomes.num_candidates
    steps = ks(num_candidates)
    columns: dict[tuple[str, int], Values] = {("pass_at_1", 0): _greedy(outcomes)}
    for k in steps:
        columns["pass_at_k", k] = pass_at_k(outcomes.right, k)
        columns["majority_at_k", k] = majority_at_k(outcomes.right, outcomes.group, k, seed=seed)
        if outcomes.score is not None:
            columns["verify_at_k", k] = verify_at_k(outcomes, k)
    if outcomes.score is not None:
        verified = columns["verify_at_k", num_candidates]
        for name, other in (
            ("verify_minus_pass_at_1", columns["pass_at_1", 0]),
            ("verify_minus_sampled_pass_at_1", columns["pass_at_k", 1]),
            ("verify_minus_majority_at_n", columns["majority_at_k", num_candidates]),
        ):
            columns[name, 0] = verified - other
    estimates = _estimates(columns, num_bootstrap, seed)
    summary: dict[str, Any] = {
        "num_questions": outcomes.num_questions,
        "num_candidates": num_candidates,
    }
    for (name, k), estimate in estimates.items():
        if k:
            summary.setdefault(name, {})[str(k)] = estimate.as_json()
        else:
            summary[name] = estimate.as_json()
    if any(count is not None for count in operations):
        summary["by_operations"] = _by_operations(
            columns, num_candidates, operations, num_bootstrap, seed
        )
    return summary


def _by_operations(
    columns: Mapping[tuple[str, int], Values],
    num_candidates: int,
    operations: Sequence[int | None],
    num_bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    names = {
        "pass_at_1": ("pass_at_1", 0),
        "pass_at_n": ("pass_at_k", num_candidates),
        "majority_at_n": ("majority_at_k", num_candidates),
        "verify_at_n": ("verify_at_k", num_candidates),
    }
    parts: dict[str, Any] = {}
    for count in sorted({count for count in operations if count is not None}):
        rows = np.flatnonzero(np.array([mine == count for mine in operations]))
        chosen = {(name, 0): columns[key][rows] for name, key in names.items() if key in columns}
        estimates = _estimates(chosen, num_bootstrap, seed)
        parts[str(count)] = {
            "num_questions": len(rows),
            **{name: estimate.as_json() for (name, _), estimate in estimates.items()},
        }
    return parts


def _estimates(
    columns: Mapping[tuple[str, int], Values], num_bootstrap: int, seed: int
) -> dict[tuple[str, int], Estimate]:
    values = np.stack(list(columns.values()), axis=1)
    return dict(
        zip(columns, bootstrap(values, num_resamples=num_bootstrap, seed=seed), strict=True)
    )


def _greedy(outcomes: Outcomes) -> Values:
    return outcomes.greedy_right.astype(np.float64)


def _subsets(num_candidates: int, k: int, seed: int) -> NDArray[np.float32]:
    """Membership `[subsets, candidates]` of all k-subsets, or of `NUM_SUBSETS` random ones."""
    if math.comb(num_candidates, k) <= NUM_SUBSETS:
        chosen = np.array(list(combinations(range(num_candidates), k)))
    else:
        generator = np.random.default_rng([seed, k])
        chosen = generator.random((NUM_SUBSETS, num_candidates)).argsort(axis=1)[:, :k]
    subsets = np.zeros((len(chosen), num_candidates), np.float32)
    np.put_along_axis(subsets, chosen, np.float32(1), axis=1)
    return subsets


def _check(k: int, num_candidates: int) -> None:
    if not 1 <= k <= num_candidates:
        raise ValueError(f"k = {k} is not between 1 and the {num_candidates} candidates")
