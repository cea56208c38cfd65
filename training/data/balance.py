"""As many wrong as right programs of every question.

Candidates of a hard question are mostly wrong, of an easy one mostly right. A verifier
that learns from all of them learns first to tell hard questions from easy ones, which
separates programs of different questions well and those of one question not at all; and
only the latter selects. Balanced within each question, the label can be told from the
program alone.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator

from training.data.records import Candidate

ONE_KIND = "candidate: its question has only right or only wrong programs"
SURPLUS = "candidate: its question has more of this verdict than of the other"


def balanced(candidates: Iterable[Candidate]) -> Iterator[tuple[Candidate, str]]:
    """Every candidate, in order, with the reason to leave it out; empty: it stays.

    Counts distinct finished programs: copies stay or go with their first one, unfinished
    candidates pass through. Which of a surplus stay is decided by a hash of their text, as
    good as chance and the same every time. Holds all candidates in memory.
    """
    found = list(candidates)
    programs: dict[str, dict[str, bool]] = defaultdict(dict)
    for candidate in found:
        if candidate.finished:
            programs[candidate.question_id][candidate.program] = candidate.verdict == "right"
    reasons = {question: _reasons(labels) for question, labels in programs.items()}
    for candidate in found:
        of_question = reasons.get(candidate.question_id, {})
        yield candidate, of_question.get(candidate.program, "") if candidate.finished else ""


def _reasons(labels: dict[str, bool]) -> dict[str, str]:
    """Program to reason, for those of one question that go."""
    right = sorted((text for text, is_right in labels.items() if is_right), key=_chance)
    wrong = sorted((text for text, is_right in labels.items() if not is_right), key=_chance)
    if not right or not wrong:
        return dict.fromkeys(labels, ONE_KIND)
    each = min(len(right), len(wrong))
    return dict.fromkeys([*right[each:], *wrong[each:]], SURPLUS)


def _chance(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
