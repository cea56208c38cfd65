import math
from typing import Any

import numpy as np
import pytest

from tests.training.evaluation.samples import candidate
from training.evaluation.select import best, distinct, most_frequent, vote_groups
from training.evaluation.statistics import Outcomes, verify_at_k


def test_the_highest_score_wins_and_the_first_of_equals():
    group = [
        candidate(program=f"    return {i}", index=i, score=score)
        for i, score in enumerate([0.1, 0.8, -3.0, 0.8])
    ]
    chosen = best(group)
    assert chosen is not None and chosen.index == 1


def test_a_program_without_a_number_is_no_answer():
    failed = candidate(program="    boom", value=None, score=9.0)
    other = candidate(score=-9.0)
    assert best([failed, other]) == other
    assert best([failed, failed]) is None
    assert best([]) is None


@pytest.mark.parametrize("nothing", [None, math.nan])
def test_unscored_programs_rank_below_scored_ones(nothing: Any):
    unscored = candidate(program="    return 1", score=nothing)
    scored = candidate(program="    return 2", score=-100.0)
    assert best([unscored, scored]) == scored
    assert best([unscored]) == unscored


def test_distinct_keeps_the_first_of_each_program_of_each_question():
    first, again = candidate(index=0), candidate(index=1)
    elsewhere = candidate(index=0, question_id="q-1")
    assert distinct([first, again, elsewhere]) == [first, elsewhere]


def test_the_vote_counts_numbers_not_texts():
    values = [8.0, 7.0, 7.0004, None, None, None, 8.5]
    group = [candidate(index=i, value=value) for i, value in enumerate(values)]
    chosen = most_frequent(group)
    assert chosen is not None and chosen.index == 1
    assert vote_groups(values) == [0, 1, 1, -1, -1, -1, 2]


def test_a_tied_vote_goes_to_the_number_written_first_and_none_without_votes():
    group = [candidate(index=i, value=value) for i, value in enumerate([5.0, 6.0, 6.0, 5.0])]
    chosen = most_frequent(group)
    assert chosen is not None and chosen.index == 0
    assert most_frequent([candidate(value=None)] * 3) is None
    assert most_frequent([]) is None


@pytest.mark.parametrize(
    ("values", "groups"),
    [
        ([1999.0, 2000.0, 1999.0], [0, 1, 0]),
        ([1999.5, 1999.0, 2000.0, 1999.6], [0, 1, 2, 0]),  # what is near both merges neither
        ([1_000_000.0, 1_000_400.0, 1_000_000.0004], [0, 1, 0]),
        ([0.0, 0.1 + 0.2 - 0.3, 0.0005, 0.004], [0, 0, 0, 1]),
        ([12.5, 12.504, 12.6], [0, 0, 1]),
    ],
)
def test_votes_count_together_only_for_one_answer(values: list[float], groups: list[int]):
    assert vote_groups(values) == groups


def test_selection_is_what_verify_at_n_counts():
    draw = np.random.default_rng(1)
    rows: list[float] = []
    right = draw.random((40, 6)) < 0.4
    failed = (draw.random((40, 6)) < 0.3) & ~right
    score = draw.normal(size=(40, 6))
    for r, f, s in zip(right, failed, score, strict=True):
        group = [
            candidate(
                index=i, program=f"    {i}", score=s[i], value=None if f[i] else 7.0 if r[i] else i
            )
            for i in range(6)
        ]
        chosen = best(group)
        rows.append(float(chosen is not None and chosen.verdict == "right"))
    outcomes = Outcomes(
        right=right,
        group=np.where(failed, -1, np.where(right, 0, 1)),
        score=score,
        greedy_right=right[:, 0],
    )
    assert verify_at_k(outcomes, 6) == pytest.approx(rows)
