"""Judges candidates again by corrected gold answers. Nothing is drawn, run or scored again.

again = corrected(answers, corrections)
again.answers, again.num_changed, again.num_removed
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from training.data.corrections import Corrections, question_key
from training.evaluation.benchmark import Answers
from training.execution.numbers import same_number
from training.records import Candidate


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """The answers to a benchmark's questions under corrected golds."""

    answers: list[Answers]
    """Without those to removed questions."""
    num_changed: int
    num_removed: int


def corrected(answers: Sequence[Answers], corrections: Corrections) -> Corrected | None:
    """Apply corrections; None: they are of none of these questions, or remove all of them."""
    kept: list[Answers] = []
    num_changed = num_removed = 0
    for entry in answers:
        correction = corrections.get(question_key(entry.question.text))
        if correction is None:
            kept.append(entry)
        elif correction.gold is None:
            num_removed += 1
        else:
            num_changed += 1
            kept.append(_judged(entry, correction.gold))
    if not kept or not num_changed + num_removed:
        return None
    return Corrected(answers=kept, num_changed=num_changed, num_removed=num_removed)


def _judged(entry: Answers, gold: float) -> Answers:
    def judged(candidate: Candidate) -> Candidate:
        if candidate.value is None:
            return candidate
        right = same_number(candidate.value, gold)
        return replace(candidate, verdict="right" if right else "wrong")

    return Answers(
        question=replace(entry.question, gold=gold),
        sampled=[judged(candidate) for candidate in entry.sampled],
        greedy=judged(entry.greedy),
    )
