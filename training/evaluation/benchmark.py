"""One generator on one question set: greedy and sampled programs, scored, measured.

    result = evaluate(sampler, "gsm8k", questions, settings=config.evaluation, ranks=ranks,
                      scorer=scorer_of(verifier, tokenizer, settings))
    result.metrics()                     # eval/gsm8k/pass_at_1 and so on
    result.summary(num_bootstrap=2000, seed=1)

All ranks call `evaluate` together, each with a whole replica of the generator (and of the
verifier), and answer every world_size-th question; counts are gathered, programs are not. While
a verifier is trained its generator's programs stay the same: pass `result.answers` back in, and
they are only scored again.

Nothing is read or written here; training/stages/runs/evaluate.py does that for saved models.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parallel.ranks import Ranks
from training.config import EvaluationConfig
from training.data.tokenizer import Tokenizer
from training.errors import CheckpointError
from training.evaluation import statistics, work
from training.evaluation.sampler import Draw, Sampler, draws
from training.evaluation.score import score
from training.evaluation.select import best, distinct, numeric_answer, vote_groups
from training.evaluation.statistics import Outcomes
from training.models.heads import Verifier
from training.monitoring.names import evaluation_metric
from training.records import Candidate, Question

_SCORED_TOKENS = 16_384
"""Most tokens scored in one forward; fewer where the settings decode less at a time."""

Scorer = Callable[[Sequence[Candidate]], Sequence[float]]
"""Gives every candidate the verifier's score of its program."""

TABLE_COLUMNS = (
    "question_id",
    "question",
    "gold",
    "program",
    "value",
    "verdict",
    "score",
    "greedy_verdict",
    "num_right",
)
"""Columns of the table of evaluation samples; `program` is the chosen one."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """One question with what the generator wrote for it."""

    question: Question
    sampled: list[Candidate]
    greedy: Candidate
    """Temperature 0; its index is the number of sampled candidates."""

    @property
    def candidates(self) -> list[Candidate]:
        """All of them, by index."""
        return [*self.sampled, self.greedy]


def scorer_of(
    verifier: Verifier,
    tokenizer: Tokenizer,
    settings: EvaluationConfig,
    *,
    check_cancelled: Callable[[], None] | None = None,
) -> Scorer:
    """A scorer around a whole verifier on one device, and the tokenizer it was trained with.

    What is scored is what a verifier learns from: question, program and end token, the end
    token also where the generator ran out of tokens before it.

    Raises:
        CheckpointError: the tokenizer has ids that the verifier has no embedding for.
    """
    if tokenizer.vocab_size > verifier.shape.vocab_size:
        raise CheckpointError(
            f"the verifier has embeddings for {verifier.shape.vocab_size} ids, its tokenizer "
            f"has {tokenizer.vocab_size}: they do not belong together"
        )
    most_tokens = min(_SCORED_TOKENS, settings.micro_batch_candidates * settings.max_new_tokens)

    def scorer(candidates: Sequence[Candidate]) -> list[float]:
        sequences = [
            tokenizer.prompt_ids(candidate.question) + tokenizer.program_ids(candidate.program)
            for candidate in candidates
        ]
        return score(
            verifier, sequences, max_batch_tokens=most_tokens, check_cancelled=check_cancelled
        )

    return scorer


def answer(
    sampler: Sampler,
    questions: Sequence[Question],
    settings: EvaluationConfig,
    *,
    on_written: Callable[[], None] = lambda: None,
) -> list[Answers]:
    """Draw the sampled and the greedy programs of every question, and judge them."""
    planned = draws(settings.temperatures, settings.num_candidates)
    planned.append(Draw(index=settings.num_candidates, temperature=0.0))
    return grouped(questions, sampler.candidates(questions, planned, on_written=on_written))


def grouped(questions: Sequence[Question], candidates: Sequence[Candidate]) -> list[Answers]:
    """Candidates by question, as `answer` draws them: each question's in order, greedy last."""
    each = len(candidates) // max(1, len(questions))
    answers: list[Answers] = []
    for index, question in enumerate(questions):
        mine = list(candidates[index * each : (index + 1) * each])
        assert {candidate.question_id for candidate in mine} == {question.id}
        answers.append(Answers(question=question, sampled=mine[:-1], greedy=mine[-1]))
    return answers


def scored(candidates: Sequence[Candidate], scorer: Scorer | None) -> list[Candidate]:
    """The candidates with scores; equal programs of a question are scored once.

    Without a scorer they lose the scores they had: those of another verifier.
    """
    if scorer is None:
        return [replace(candidate, score=None) for candidate in candidates]
    once = distinct(candidates)
    scores = {
        (candidate.question_id, candidate.program): float(value)
        for candidate, value in zip(once, scorer(once), strict=True)
    }
    return [
        replace(candidate, score=scores[candidate.question_id, candidate.program])
        for candidate in candidates
    ]


def outcomes(answers: Sequence[Answers], num_candidates: int, *, with_scores: bool) -> Outcomes:
    """What is counted about the answers."""
    size = (len(answers), num_candidates)
    rows = [entry.sampled for entry in answers]
    groups = [vote_groups([numeric_answer(c) for c in row]) for row in rows]
    scores = [[np.nan if c.score is None else c.score for c in row] for row in rows]
    verdicts = [[c.verdict == "right" for c in row] for row in rows]
    return Outcomes(
        right=np.array(verdicts, bool).reshape(size),
        group=np.array(groups, np.int64).reshape(size),
        score=np.array(scores, np.float64).reshape(size) if with_scores else None,
        greedy_right=np.array([entry.greedy.verdict == "right" for entry in answers], bool),
    )


def table_rows(answers: Sequence[Answers]) -> list[list[Any]]:
    """Rows of `TABLE_COLUMNS`: the chosen program; without a verifier, the greedy one."""
    rows: list[list[Any]] = []
    for entry in answers:
        has_scores = any(candidate.score is not None for candidate in entry.sampled)
        chosen = (best(entry.sampled) if has_scores else None) or entry.greedy
        rows.append(
            [
                entry.question.id,
                entry.question.text,
                entry.question.gold,
                chosen.program,
                chosen.value,
                chosen.verdict,
                chosen.score,
                entry.greedy.verdict,
                sum(candidate.verdict == "right" for candidate in entry.sampled),
            ]
        )
    return rows


@dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """The result of one question set; the same on every rank but for `answers`."""

    name: str
    outcomes: Outcomes
    """Of all questions, in their order."""
    operations: list[int | None]
    """How many operations each question needs, where it says so."""
    table_rows: list[list[Any]]
    """Rows of `TABLE_COLUMNS` for the first questions."""
    answers: list[Answers]
    """This rank's answers."""

    def metrics(self) -> dict[str, float]:
        """Accuracies by metric name; k is the number of candidates."""
        counted, k = self.outcomes, self.outcomes.num_candidates
        values = {
            "pass_at_1": counted.greedy_right.mean(),
            "sampled_pass_at_1": counted.right.mean(),
            "pass_at_k": statistics.pass_at_k(counted.right, k).mean(),
            "majority_at_k": statistics.majority_at_k(counted.right, counted.group, k).mean(),
            "failed_fraction": (counted.group < 0).mean(),
        }
        if counted.score is not None:
            values["verify_at_k"] = statistics.verify_at_k(counted, k).mean()
        return {evaluation_metric(self.name, name): float(v) for name, v in values.items()}

    def summary(self, *, num_bootstrap: int, seed: int) -> dict[str, Any]:
        """All measures with 95 % intervals, as `evaluation.json` holds them."""
        return statistics.summarise(
            self.outcomes, num_bootstrap=num_bootstrap, seed=seed, operations=self.operations
        )


def measured(
    name: str,
    answers: Sequence[Answers],
    *,
    num_candidates: int,
    with_scores: bool,
    num_table_rows: int,
) -> BenchmarkResult:
    """The result of answers to all questions."""
    return BenchmarkResult(
        name=name,
        outcomes=outcomes(answers, num_candidates, with_scores=with_scores),
        operations=[operations_of(entry.question) for entry in answers],
        table_rows=table_rows(answers[:num_table_rows]),
        answers=list(answers),
    )


def evaluate(
    sampler: Sampler | None,
    name: str,
    questions: Sequence[Question],
    *,
    settings: EvaluationConfig,
    ranks: Ranks,
    scorer: Scorer | None = None,
    answers: Sequence[Answers] | None = None,
    num_table_rows: int = 32,
    independent_work: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> BenchmarkResult:
    """Evaluate on all ranks together.

    Args:
        sampler: Around this rank's replica of the generator; None only with `answers`.
        name: The benchmark's.
        questions: All of them, the same on every rank.
        settings: Candidates, temperatures and bounds.
        ranks: Who takes part.
        scorer: Around this rank's replica of the verifier; None: no verify@k.
        answers: This rank's answers of an earlier result, to be scored instead of drawn.
        num_table_rows: Rows for the table of samples.
        independent_work: Context of what a rank does on its own:
            `Cancellation.independent_work` cancels it on all ranks together.

    Raises:
        ValueError: there are no questions.
    """
    if not questions:
        raise ValueError(f"benchmark {name} has no questions")
    with independent_work():
        if answers is None:
            assert sampler is not None, "without answers there must be a sampler"
            answers = answer(sampler, work.of_rank(questions, ranks), settings)
        written = [candidate for entry in answers for candidate in entry.candidates]
        answers = grouped([entry.question for entry in answers], scored(written, scorer))
    mine = measured(
        name,
        answers,
        num_candidates=settings.num_candidates,
        with_scores=scorer is not None,
        num_table_rows=num_table_rows,
    )
    of_ranks = ranks.gather((mine.outcomes, mine.table_rows))
    rows = {row[0]: row for _, table in of_ranks for row in table}
    return replace(
        mine,
        outcomes=_interleaved([rank_outcomes for rank_outcomes, _ in of_ranks]),
        operations=[operations_of(question) for question in questions],
        table_rows=[rows[q.id] for q in questions[:num_table_rows] if q.id in rows],
    )


def operations_of(question: Question) -> int | None:
    """How many operations the question says that it needs."""
    count = question.tags.get("operations")
    return count if isinstance(count, int) else None


def _interleaved(parts: Sequence[Outcomes]) -> Outcomes:
    """Undo `work.of_rank`: question i is row i // world_size of rank i % world_size."""
    positions = np.arange(sum(part.num_questions for part in parts))
    # Row of each question in the ranks' outcomes laid end to end.
    starts = np.cumsum([0, *(part.num_questions for part in parts)])
    rows = starts[positions % len(parts)] + positions // len(parts)
    scores = [part.score for part in parts if part.score is not None]
    return Outcomes(
        right=np.concatenate([part.right for part in parts]),
        group=np.concatenate([part.group for part in parts]),
        score=np.concatenate(scores) if scores else None,
        greedy_right=np.concatenate([part.greedy_right for part in parts]),
    ).select(rows)
