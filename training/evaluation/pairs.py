"""Differences between a benchmark and GSM8K, by question where both hold the same ones.

    compared = against(gsm8k, platinum, num_bootstrap=2000, seed=1)

A variant (of GSM-Symbolic or GSM-Plus) names its original, and any other question is paired by
equal text (GSM8K-Platinum, English MGSM). Several variants of a question count as their mean, so
that each pair is one GSM8K question, and the bootstrap redraws these.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.config import BenchmarkConfig
from training.data.benchmarks import ORIGINAL, text_key
from training.evaluation import statistics
from training.evaluation.statistics import Outcomes, Values
from training.monitoring.names import evaluation_metric
from training.records import Question

REFERENCE_KIND = "gsm8k"
AGAINST = "against_gsm8k"
"""Key of a benchmark's comparison in `evaluation.json`."""
_METRICS = {
    "pass_at_1": "pass_at_1",
    "sampled_pass_at_1": "sampled_pass_at_1",
    "majority_at_n": "majority_at_k",
    "verify_at_n": "verify_at_k",
}
"""Measures whose difference is logged, with their names among the metrics."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One benchmark's questions with what is counted about them, in the same order."""

    name: str
    questions: Sequence[Question]
    outcomes: Outcomes


def reference_of(benchmarks: Sequence[BenchmarkConfig]) -> str:
    """The name of the first benchmark that is GSM8K; empty: none is."""
    return next((entry.name for entry in benchmarks if entry.kind == REFERENCE_KIND), "")


def compared(
    benchmarks: Sequence[BenchmarkConfig],
    measured: Mapping[str, Measured],
    *,
    num_bootstrap: int,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Each benchmark's comparison with the first that is GSM8K, by name; see `against`.

    Other parts of GSM8K and built-in problems are not compared.
    """
    reference = reference_of(benchmarks)
    others = [entry.name for entry in benchmarks if entry.kind not in (REFERENCE_KIND, "problems")]
    if not reference:
        return {}
    return {
        name: against(measured[reference], measured[name], num_bootstrap=num_bootstrap, seed=seed)
        for name in others
    }


def against(
    reference: Measured, other: Measured, *, num_bootstrap: int, seed: int
) -> dict[str, Any]:
    """Accuracies on the paired questions of both and their differences, each with its interval.

    Args:
        reference: GSM8K.
        other: The benchmark that is compared with it.
        num_bootstrap: Resamples of the pairs behind each interval.
        seed: Of the resamples.

    Returns:
        `reference`, its name; `num_pairs`, of GSM8K questions; `num_questions`, of the benchmark,
        in these pairs; and for each measure `here`, `there` (on the reference) and `difference`,
        here minus there. Without pairs there are no measures.
    """
    rows, partners = _pairs(reference.questions, other.questions)
    there, positions = np.unique(partners, return_inverse=True)
    found: dict[str, Any] = {
        "reference": reference.name,
        "num_pairs": len(there),
        "num_questions": len(rows),
    }
    if not len(rows):
        return found
    mine = statistics.at_n(other.outcomes, seed=seed)
    theirs = statistics.at_n(reference.outcomes, seed=seed)
    names = [name for name in mine if name in theirs]
    columns: list[Values] = []
    for name in names:
        means = np.bincount(positions, mine[name][rows]) / np.bincount(positions)
        columns += [means, theirs[name][there], means - theirs[name][there]]
    estimates = iter(
        statistics.bootstrap(np.stack(columns, axis=1), num_resamples=num_bootstrap, seed=seed)
    )
    for name in names:
        found[name] = {key: next(estimates).as_json() for key in ("here", "there", "difference")}
    return found


def _pairs(
    reference: Sequence[Question], other: Sequence[Question]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the questions of `other` that have a partner, and those of the partners."""
    position_of = {text_key(question.text): at for at, question in enumerate(reference)}
    keys = [str(q.tags[ORIGINAL]) if ORIGINAL in q.tags else text_key(q.text) for q in other]
    rows = [at for at, key in enumerate(keys) if key in position_of]
    partners = [position_of[keys[at]] for at in rows]
    return np.array(rows, np.int64), np.array(partners, np.int64)


def metrics(comparisons: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The differences by metric name: `eval/gsm_plus/pass_at_1_minus_gsm8k`."""
    return {
        evaluation_metric(name, f"{metric}_minus_gsm8k"): found[measure]["difference"]["value"]
        for name, found in comparisons.items()
        for measure, metric in _METRICS.items()
        if measure in found
    }
