"""How well the verifier ranks scored candidates, and examples of its choices.

The area under the ROC curve is the probability that a right candidate is scored above
one that is not right (ties count half). Pooled, it mixes easy and hard questions;
within questions it is what choosing among one question's candidates needs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy
from numpy.typing import NDArray

from training.evaluation import select
from training.records import Candidate, Verdict

Floats = NDArray[numpy.float64]
Kind = Literal["saved", "missed", "solved", "unsolved"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranking:
    """The scores of sampled candidates and how they rank right above not right."""

    right: Floats
    other: Floats
    """Scores of wrong and failed candidates."""
    pooled_auc: float | None
    within_auc: float | None
    """Mean over the questions that have both kinds."""
    num_mixed: int
    """Questions that have both kinds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The candidates of one question that gave the same number."""

    value: float | None
    verdict: Verdict
    num_candidates: int
    best_score: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One question worth looking at, with the programs that show why."""

    kind: Kind
    question: str
    question_id: str
    right_value: float | None
    """The right answer, known when any candidate gave it."""
    answers: tuple[Answer, ...]
    programs: tuple[tuple[str, Candidate], ...]
    """(why it is shown, candidate)."""


def auc(right: Floats, other: Floats) -> float | None:
    """Mann-Whitney's U over its maximum; None when either side is empty."""
    if not len(right) or not len(other):
        return None
    ordered = numpy.sort(other)
    below = numpy.searchsorted(ordered, right, side="left")
    not_above = numpy.searchsorted(ordered, right, side="right")
    return float((below + not_above).mean() / 2 / len(ordered))


def rank(candidates: Iterable[Candidate]) -> Ranking | None:
    """Compare scores of right candidates with the rest; None when nothing is scored."""
    right: list[float] = []
    other: list[float] = []
    within: list[float] = []
    for group in by_question(candidates).values():
        scored = [
            (candidate.verdict == "right", candidate.score)
            for candidate in sampled(group)
            if candidate.score is not None and numpy.isfinite(candidate.score)
        ]
        right_scores = [score for is_right, score in scored if is_right]
        other_scores = [score for is_right, score in scored if not is_right]
        right += right_scores
        other += other_scores
        area = auc(numpy.array(right_scores), numpy.array(other_scores))
        if area is not None:
            within.append(area)
    if not right and not other:
        return None
    scores = numpy.array(right, dtype=float), numpy.array(other, dtype=float)
    return Ranking(
        right=scores[0],
        other=scores[1],
        pooled_auc=auc(*scores),
        within_auc=float(numpy.mean(within)) if within else None,
        num_mixed=len(within),
    )


def by_question(candidates: Iterable[Candidate]) -> dict[str, list[Candidate]]:
    """Candidates by question, in the order of the file."""
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.question_id, []).append(candidate)
    return groups


def sampled(group: Sequence[Candidate]) -> list[Candidate]:
    """The candidates that were drawn at random; all of them when none was."""
    drawn = [candidate for candidate in group if candidate.temperature]
    return drawn or list(group)


def cases(candidates: Iterable[Candidate]) -> list[Case]:
    """A few questions to look at, the verifier's successes and failures first.

    Always the same ones for the same candidates: the clearest of each kind, by the gap
    between the best score of a right candidate and of one that is not.
    """
    found: dict[Kind, list[tuple[float, Case]]] = {
        "saved": [],
        "missed": [],
        "solved": [],
        "unsolved": [],
    }
    for group in by_question(candidates).values():
        case, weight = _case(group)
        found[case.kind].append((weight, case))
    num_shown: dict[Kind, int] = {"saved": 2, "missed": 2, "solved": 1, "unsolved": 1}
    chosen: list[Case] = []
    for kind, number in num_shown.items():
        clearest = sorted(found[kind], key=lambda entry: (-entry[0], entry[1].question_id))
        chosen += [case for _, case in clearest[:number]]
    return chosen


def _case(group: Sequence[Candidate]) -> tuple[Case, float]:
    drawn = sampled(group)
    answers = _answers(drawn)
    greedy = next((candidate for candidate in group if not candidate.temperature), None)
    scored = any(candidate.score is not None for candidate in drawn)
    by_vote = select.most_frequent(drawn)
    # Where no program gave a number there is no choice, and the first stands for all.
    chosen = (select.best(drawn) if scored else by_vote) or drawn[0]
    best_right = max((c for c in drawn if c.verdict == "right"), key=_score, default=None)
    best_other = max((c for c in drawn if c.verdict != "right"), key=_score, default=None)
    gap = _score(best_right) - _score(best_other) if best_right and best_other else 0.0
    reason = "The verifier's choice" if scored else "The majority's answer"
    programs: list[tuple[str, Candidate]] = [(reason, chosen)]
    if best_right is None:
        kind, weight = "unsolved", 0.0
    elif chosen.verdict != "right":
        kind, weight = "missed", -gap
        programs.append(("The right program it passed over", best_right))
    elif scored and by_vote and by_vote.verdict != "right":
        kind, weight = "saved", gap
        programs.append(("What the majority answered", by_vote))
    elif scored and greedy and greedy.verdict != "right":
        kind, weight = "saved", gap - 1e3  # Beating the vote as well is the better story.
        programs.append(("The greedy program", greedy))
    else:
        kind, weight = "solved", float(len(answers))
    case = Case(
        kind=kind,
        question=group[0].question,
        question_id=group[0].question_id,
        right_value=best_right.value if best_right else None,
        answers=tuple(answers),
        programs=tuple(programs),
    )
    return case, weight


def _score(candidate: Candidate) -> float:
    return -numpy.inf if candidate.score is None else candidate.score


def _answers(drawn: Sequence[Candidate]) -> list[Answer]:
    """Candidates by the number they gave, the most frequent first."""
    groups: dict[int, list[Candidate]] = {}
    numbers = [select.numeric_answer(candidate) for candidate in drawn]
    for candidate, group in zip(drawn, select.vote_groups(numbers), strict=True):
        groups.setdefault(group, []).append(candidate)
    answers = [
        Answer(
            value=select.numeric_answer(members[0]),
            verdict=members[0].verdict,
            num_candidates=len(members),
            best_score=max((c.score for c in members if c.score is not None), default=None),
        )
        for members in groups.values()
    ]
    return sorted(answers, key=lambda answer: -answer.num_candidates)
