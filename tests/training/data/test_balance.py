"""Balanced candidates: within each question as many wrong as right, and no other rule."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from tests.training.data.packing import example
from training.data import reasons
from training.data.balance import balanced, order_of
from training.data.pack import Examples, Mode
from training.records import Verdict


@dataclass(frozen=True)
class _Given:
    question: str
    program: str
    verdict: str
    reason: str


def _balanced(found: Sequence[tuple[str, str, Any]]) -> list[_Given]:
    """What becomes of (question, program, verdict)s."""
    examples: list[Examples] = []
    order: list[int] = []
    for question, program, verdict in found:
        assert verdict in get_args(Verdict)
        mode = Mode.RIGHT if verdict == "right" else Mode.WRONG
        prompt = (question + "\0").encode()
        examples.append(example([*prompt], [*program.encode()], program_mode=mode))
        order.append(order_of(program, failed=verdict == "failed"))
    given = balanced(Examples.concatenate(examples), np.array(order, np.uint64))
    return [_Given(*found[index], reason) for index, reason in given]


def test_each_question_keeps_as_many_wrong_as_right() -> None:
    found = [("q", f"w{i}", "wrong") for i in range(9)]
    found += [("q", f"r{i}", "right") for i in range(2)]
    found += [("p", "r", "right"), ("p", "w", "wrong")]
    given = _balanced(found)
    assert Counter((g.question, g.verdict) for g in given if not g.reason) == {
        ("q", "right"): 2,
        ("q", "wrong"): 2,
        ("p", "right"): 1,
        ("p", "wrong"): 1,
    }
    assert Counter(g.reason for g in given)[reasons.SURPLUS] == 7 and len(given) == len(found)


def test_of_the_wrong_those_that_gave_no_number_go_first() -> None:
    found = [("q", f"f{i}", "failed") for i in range(9)]
    found += [("q", f"w{i}", "wrong") for i in range(2)]
    found += [("q", f"r{i}", "right") for i in range(3)]
    kept = {g.program for g in _balanced(found) if not g.reason}
    assert kept > {"w0", "w1", "r0", "r1", "r2"}
    assert sum(program.startswith("f") for program in kept) == 1


def test_questions_with_one_verdict_go() -> None:
    found = [("a", "r", "right"), ("b", "w", "wrong"), ("b", "v", "failed")]
    assert [g.reason for g in _balanced(found)] == [reasons.ONE_VERDICT] * 3


def test_right_and_wrong_that_stay_come_in_turn() -> None:
    verdicts = {"w": "wrong", "r": "right"}
    found = [
        (question, f"{kind}{number}{place}", verdicts[kind])
        for number in range(3)
        for question in "pq"
        for place, kind in enumerate("wwr")
    ]
    given = [(g.question, g.verdict) for g in _balanced(found) if not g.reason]
    assert given == [(q, verdict) for q in "pq" for _ in range(3) for verdict in ("right", "wrong")]


def test_a_hash_of_the_text_decides_whatever_the_order() -> None:
    found = [("q", f"w{i}", "wrong") for i in range(9)] + [("q", "r", "right")]
    kept = {g.program for g in _balanced(found) if not g.reason}
    assert kept == {g.program for g in _balanced(found[::-1]) if not g.reason}
    first = min((f"w{i}" for i in range(9)), key=lambda w: hashlib.sha256(w.encode()).digest())
    assert kept == {"r", first}
