"""As many wrong as right programs of every question.

Candidates of a hard question are mostly wrong, of an easy one mostly right. A verifier
that learns from all of them learns first to tell hard questions from easy ones, which
separates programs of different questions well and those of one question not at all; and
only the latter selects. Balanced within each question, the label can be told from the
program alone; and with the two of a question in one optimizer step, most of the gradient's
noise is gone, since whatever does not tell them apart pulls both ways.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator

from training.data.records import Candidate

ONE_KIND = "candidate: its question has only right or only wrong programs"
SURPLUS = "candidate: its question has more of this verdict than of the other"


def balanced(candidates: Iterable[Candidate]) -> Iterator[tuple[Candidate, str]]:
    """Every candidate, with the reason to leave it out; empty: it stays.

    First come those that stay, right and wrong of one question in turn, so that packing
    keeps the two together (`pack.pairs`); then the others in their order. Counts distinct
    finished programs: copies stay or go with their first one, unfinished candidates pass
    through. Of a surplus of wrong programs those that gave no number go first, since running
    them has told already what the verifier would. The rest is decided by a hash of the text,
    as good as chance and the same every time. Holds all candidates in memory.
    """
    questions: dict[str, dict[str, Candidate]] = defaultdict(dict)
    others: list[Candidate] = []
    for candidate in candidates:
        of_question = questions[candidate.question_id]
        if candidate.finished and candidate.program not in of_question:
            of_question[candidate.program] = candidate
        else:
            others.append(candidate)
    reasons: dict[tuple[str, str], str] = {}
    for of_question in questions.values():
        right, wrong = _ordered(of_question.values())
        for one, other in zip(right, wrong, strict=False):
            yield one, ""
            yield other, ""
        paired = min(len(right), len(wrong))
        for candidate in (*right[paired:], *wrong[paired:]):
            reason = SURPLUS if paired else ONE_KIND
            reasons[candidate.question_id, candidate.program] = reason
            others.append(candidate)
    for candidate in others:
        key = candidate.question_id, candidate.program
        yield candidate, reasons.get(key, "") if candidate.finished else ""


def _ordered(candidates: Iterable[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
    """Right and wrong candidates of one question, those to keep first."""
    by_chance = sorted(candidates, key=lambda c: hashlib.sha256(c.program.encode()).digest())
    wrong = [candidate for candidate in by_chance if candidate.verdict != "right"]
    wrong.sort(key=lambda candidate: candidate.verdict == "failed")
    return [candidate for candidate in by_chance if candidate.verdict == "right"], wrong
