from dataclasses import replace
from itertools import product

import numpy
import pytest

from training.records import Candidate, Verdict
from training.report.verifier import auc, cases, rank


def candidate(
    question: str, verdict: Verdict, score: float | None, value: float = 1.0, **changes: float
) -> Candidate:
    made = Candidate(
        question_id=question,
        question=f"Question {question}?",
        program=f"    return {value} if {verdict!r} else {score}",
        generator="step_1",
        temperature=0.5,
        index=0,
        status="error" if verdict == "failed" else "ok",
        value=None if verdict == "failed" else value,
        error="",
        verdict=verdict,
        num_tokens=3,
        finished=True,
        score=score,
    )
    return replace(made, **changes)


def test_auc_is_the_fraction_of_pairs_in_order_with_ties_half() -> None:
    random = numpy.random.default_rng(1)
    right, other = random.integers(0, 6, 40).astype(float), random.integers(0, 5, 30).astype(float)
    pairs = [(a > b) + 0.5 * (a == b) for a, b in product(right, other)]
    assert auc(right, other) == pytest.approx(numpy.mean(pairs))
    assert auc(right, numpy.array([])) is None


def test_ranking_within_questions_ignores_how_hard_questions_are() -> None:
    # Scores follow the question, not the program: pooled looks good, within is chance.
    easy = [candidate("easy", "right", 0.9)] * 9 + [candidate("easy", "wrong", 0.9, 2.0)]
    hard = [candidate("hard", "right", 0.1)] + [candidate("hard", "wrong", 0.1, 2.0)] * 9
    ranking = rank(easy + hard)
    assert ranking is not None
    assert ranking.pooled_auc == pytest.approx(0.9)
    assert ranking.within_auc == pytest.approx(0.5)
    assert ranking.num_mixed == 2


def test_unscored_candidates_rank_nothing() -> None:
    assert rank([candidate("a", "right", None)]) is None
    one_kind = rank([candidate("a", "right", 0.5)])
    assert one_kind is not None and one_kind.pooled_auc is None


def test_cases_separate_saved_from_missed_and_ignore_the_greedy_program_when_choosing() -> None:
    saved = [candidate("s", "wrong", 0.2, 5.0)] * 2 + [candidate("s", "right", 0.8)]
    missed = [candidate("m", "right", 0.3), candidate("m", "wrong", 0.7, 4.0)]
    missed.append(candidate("m", "right", 0.99, temperature=0.0))
    unsolved = [candidate("u", "wrong", 0.4, 3.0), candidate("u", "failed", 0.5)]
    found = {case.question_id: case for case in cases(saved + missed + unsolved)}
    assert {name: case.kind for name, case in found.items()} == {
        "s": "saved",
        "m": "missed",
        "u": "unsolved",
    }
    assert found["s"].right_value == 1.0
    assert [answer.num_candidates for answer in found["s"].answers] == [2, 1]
    assert found["u"].right_value is None


def test_a_program_without_a_number_is_chosen_last_whatever_its_score() -> None:
    group = [candidate("q", "failed", 0.99), candidate("q", "right", 0.1)]
    assert cases(group)[0].programs[0][1].verdict == "right"


def test_greedy_program_saved_by_the_verifier() -> None:
    group = [candidate("q", "right", 0.9)] * 3
    group.append(candidate("q", "wrong", None, 7.0, temperature=0.0))
    case = cases(group)[0]
    assert case.kind == "saved"
    assert case.programs[1][0] == "The greedy program"
