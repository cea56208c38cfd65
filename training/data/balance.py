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

from training.data.records import Candidate, Verdict

ONE_KIND = "candidate: its question has only right or only wrong programs"
SURPLUS = "candidate: its question has more of this verdict than of the other"


def balanced(candidates: Iterable[Candidate]) -> Iterator[tuple[Candidate, str]]:
    """Every candidate, in order, with the reason to leave it out; empty: it stays.

    Counts distinct finished programs: copies stay or go with their first one, unfinished
    candidates pass through. Of a surplus of wrong programs those that gave no number go
    first, since running them has told already what the verifier would. The rest is decided
    by a hash of the text, as good as chance and the same every time. Holds all candidates
    in memory.
    """
    found = list(candidates)
    programs: dict[str, dict[str, Verdict]] = defaultdict(dict)
    for candidate in found:
        if candidate.finished:
            programs[candidate.question_id][candidate.program] = candidate.verdict
    reasons = {question: _reasons(verdicts) for question, verdicts in programs.items()}
    for candidate in found:
        of_question = reasons.get(candidate.question_id, {})
        yield candidate, of_question.get(candidate.program, "") if candidate.finished else ""


def _reasons(verdicts: dict[str, Verdict]) -> dict[str, str]:
    """Program to reason, for those of one question that go."""
    right = sorted((text for text, verdict in verdicts.items() if verdict == "right"), key=_chance)
    wrong = sorted(
        (text for text, verdict in verdicts.items() if verdict != "right"),
        key=lambda text: (verdicts[text] == "failed", _chance(text)),
    )
    if not right or not wrong:
        return dict.fromkeys(verdicts, ONE_KIND)
    each = min(len(right), len(wrong))
    return dict.fromkeys([*right[each:], *wrong[each:]], SURPLUS)


def _chance(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
