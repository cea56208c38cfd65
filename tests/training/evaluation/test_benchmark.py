from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from parallel.ranks import ALONE, Ranks
from tests.training.evaluation import models
from tests.training.evaluation.samples import candidate
from training.config import EvaluationConfig
from training.evaluation.benchmark import (
    TABLE_COLUMNS,
    BenchmarkResult,
    evaluate,
    grouped,
    outcomes,
    scored,
)
from training.evaluation.sampler import Draw
from training.records import Candidate, Question

SETTINGS = EvaluationConfig(num_candidates=4, temperatures=(0.5, 0.7))


class FakeSampler:
    """Writes programs that count up from a number that depends on the question."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def candidates(
        self, questions: Sequence[Question], wanted: Sequence[Draw], *, on_written: Any
    ) -> list[Candidate]:
        self.asked += [question.id for question in questions]
        return [self._candidate(question, draw) for question in questions for draw in wanted]

    def _candidate(self, question: Question, draw: Draw) -> Candidate:
        number = int(question.id.removeprefix("q-"))
        value = None if (number + draw.index) % 5 == 0 else float((number * draw.index) % 3)
        verdict = "failed" if value is None else "right" if value == 1 else "wrong"
        return candidate(
            question_id=question.id,
            question=question.text,
            program=f"    return {value}",
            index=draw.index,
            temperature=draw.temperature,
            value=value,
            verdict=verdict,
        )


def scorer(candidates: Sequence[Candidate]) -> list[float]:
    assert len({(c.question_id, c.program) for c in candidates}) == len(candidates)
    return [float(len(c.question_id + c.program) % 7) + (c.value or 0) for c in candidates]


def run(ranks: Ranks = ALONE, **given: Any) -> BenchmarkResult:
    sampler: Any = FakeSampler()
    options: dict[str, Any] = {"settings": SETTINGS, "ranks": ranks, "scorer": scorer, **given}
    return evaluate(sampler, "toy", models.questions(11), **options)


def test_measures_have_their_names_and_are_fractions():
    result = run()
    metrics = result.metrics()
    assert set(metrics) == {
        f"eval/toy/{name}"
        for name in (
            "pass_at_1",
            "sampled_pass_at_1",
            "pass_at_k",
            "majority_at_k",
            "verify_at_k",
            "failed_fraction",
        )
    }
    assert all(0 <= value <= 1 for value in metrics.values())
    summary = result.summary(num_bootstrap=100, seed=1)
    assert summary["num_questions"] == 11
    assert summary["pass_at_1"]["value"] == metrics["eval/toy/pass_at_1"]
    assert summary["verify_at_k"]["4"]["value"] == metrics["eval/toy/verify_at_k"]
    assert list(summary["by_operations"]) == ["1", "2"]


def test_without_a_verifier_there_is_no_verify_at_k():
    metrics = run(scorer=None).metrics()
    assert "eval/toy/verify_at_k" not in metrics and len(metrics) == 5


def test_greedy_is_asked_once_and_counted_apart():
    result = run()
    for entry in result.answers:
        assert [c.index for c in entry.sampled] == [0, 1, 2, 3]
        assert [c.temperature for c in entry.sampled] == [0.5, 0.5, 0.7, 0.7]
        assert (entry.greedy.temperature, entry.greedy.index) == (0.0, 4)
    wanted = [entry.greedy.verdict == "right" for entry in result.answers]
    assert result.outcomes.greedy_right.tolist() == wanted


@pytest.mark.parametrize("world_size", [2, 3, 16])
def test_any_number_of_ranks_measures_the_same(world_size: int):
    alone = run()
    shares: list[Any] = []

    class Pretended(Ranks):
        """Collects in a first round what it hands out in a second."""

        def gather(self, value: Any) -> list[Any]:
            if len(shares) < self.world_size:
                shares.append(value)
                return [value]
            return shares

    def on(rank: int) -> BenchmarkResult:
        ranks = Pretended(rank=rank, world_size=world_size, local_rank=rank, launcher="test")
        return run(ranks)

    for rank in range(world_size):
        on(rank)
    result = on(0)
    assert result.metrics() == alone.metrics()
    assert result.table_rows == alone.table_rows
    assert result.operations == alone.operations
    assert np.array_equal(result.outcomes.group, alone.outcomes.group)


def test_kept_answers_are_only_scored_again():
    first = run()
    sampler: Any = FakeSampler()
    again = evaluate(
        sampler,
        "toy",
        models.questions(11),
        settings=SETTINGS,
        ranks=ALONE,
        scorer=lambda written: [-score for score in scorer(written)],
        answers=first.answers,
    )
    assert sampler.asked == []
    assert again.metrics()["eval/toy/pass_at_k"] == first.metrics()["eval/toy/pass_at_k"]
    assert again.outcomes.score is not None and first.outcomes.score is not None
    assert np.array_equal(again.outcomes.score, -first.outcomes.score)


def test_table_rows_show_the_chosen_program():
    result = run(num_table_rows=3)
    assert [row[0] for row in result.table_rows] == ["q-0", "q-1", "q-2"]
    assert all(len(row) == len(TABLE_COLUMNS) for row in result.table_rows)
    row = dict(zip(TABLE_COLUMNS, result.table_rows[1], strict=True))
    sampled = result.answers[1].sampled
    best = max((c for c in sampled if c.verdict != "failed"), key=lambda c: c.score or 0.0)
    assert (row["program"], row["score"]) == (best.program, best.score)
    assert row["num_right"] == sum(c.verdict == "right" for c in sampled)
    unscored = run(num_table_rows=3, scorer=None)
    assert [row[3] for row in unscored.table_rows] == [
        entry.greedy.program for entry in unscored.answers[:3]
    ]


def test_an_empty_benchmark_is_refused():
    sampler: Any = FakeSampler()
    with pytest.raises(ValueError, match="toy has no questions"):
        evaluate(sampler, "toy", [], settings=SETTINGS, ranks=ALONE)


def test_a_question_of_failures_alone_counts_as_not_answered():
    question = models.questions(1)
    failed = [candidate(index=i, value=None) for i in range(5)]
    answers = grouped(question, scored(failed, lambda written: [0.5] * len(written)))
    found = outcomes(answers, 4, with_scores=True)
    assert not found.right.any() and (found.group == -1).all() and not found.greedy_right[0]


def test_scores_of_another_verifier_do_not_stay():
    assert scored([candidate(score=3.0)], None)[0].score is None
