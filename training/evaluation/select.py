"""From the candidates of one question to one answer: by score, or by vote.

    answer = best(candidates)             # the verifier's choice
    answer = most_frequent(candidates)    # majority vote

Programs that gave no number are never selected: running them shows it, without gold. Both return
None when no candidate has a number.
"""

import math
from collections.abc import Iterable, Sequence

from training.execution.numbers import same_answer
from training.records import Candidate


def distinct(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The first candidate of every program text, per question, in order."""
    first: dict[tuple[str, str], Candidate] = {}
    for candidate in candidates:
        first.setdefault((candidate.question_id, candidate.program), candidate)
    return list(first.values())


def best(candidates: Iterable[Candidate]) -> Candidate | None:
    """The highest score among the distinct candidates of one question.

    Candidates without a (finite) score rank below all with one; of equals the first wins.
    """
    answers = [candidate for candidate in distinct(candidates) if candidate.verdict != "failed"]
    return max(answers, key=_score, default=None)


def most_frequent(candidates: Sequence[Candidate]) -> Candidate | None:
    """The first candidate of the number that most programs gave; of equals the first number.

    Every sampled program votes, duplicates too: that they were drawn again is the evidence.
    """
    groups = vote_groups([numeric_answer(candidate) for candidate in candidates])
    votes = [groups.count(group) if group >= 0 else 0 for group in groups]
    if not any(votes):
        return None
    return candidates[votes.index(max(votes))]


def numeric_answer(candidate: Candidate) -> float | None:
    """The number the candidate's program gave; None when it failed."""
    return None if candidate.verdict == "failed" else candidate.value


def vote_groups(values: Sequence[float | None]) -> list[int]:
    """Number the values so that equal numbers share one, from 0 by first occurrence; None: -1.

    Equal is what `same_answer` says of a value and the first of its group.
    """
    known: dict[float, int] = {}
    firsts: list[float] = []
    groups: list[int] = []
    for value in values:
        if value is None:
            groups.append(-1)
            continue
        if value not in known:
            equals = (group for group, first in enumerate(firsts) if same_answer(value, first))
            known[value] = next(equals, len(firsts))
            if known[value] == len(firsts):
                firsts.append(value)
        groups.append(known[value])
    return groups


def _score(candidate: Candidate) -> float:
    if candidate.score is None or math.isnan(candidate.score):
        return -math.inf
    return candidate.score
