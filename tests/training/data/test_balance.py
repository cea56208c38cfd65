"""Balanced candidates: within each question as many wrong as right, and no other rule."""

from collections import Counter

from training.data.balance import ONE_KIND, SURPLUS, balanced
from training.data.records import Candidate


def _candidate(
    question: str, program: str, right: bool, finished: bool = True, failed: bool = False
) -> Candidate:
    return Candidate(
        question_id=question,
        question=question,
        program=program,
        generator="g",
        temperature=0.5,
        index=0,
        status="ok",
        value=1.0,
        error="",
        verdict="right" if right else "failed" if failed else "wrong",
        num_tokens=3,
        finished=finished,
    )


def test_each_question_keeps_as_many_wrong_as_right() -> None:
    found = [_candidate("q", f"w{i}", False) for i in range(9)]
    found += [_candidate("q", f"r{i}", True) for i in range(2)]
    found += [_candidate("p", "r", True), _candidate("p", "w", False)]
    kept = [candidate for candidate, reason in balanced(found) if not reason]
    assert Counter((c.question_id, c.verdict) for c in kept) == {
        ("q", "right"): 2,
        ("q", "wrong"): 2,
        ("p", "right"): 1,
        ("p", "wrong"): 1,
    }
    assert Counter(reason for _, reason in balanced(found))[SURPLUS] == 7


def test_of_the_wrong_those_that_gave_no_number_go_first() -> None:
    found = [_candidate("q", f"f{i}", False, failed=True) for i in range(9)]
    found += [_candidate("q", f"w{i}", False) for i in range(2)]
    found += [_candidate("q", f"r{i}", True) for i in range(3)]
    kept = {c.program for c, reason in balanced(found) if not reason}
    assert kept > {"w0", "w1", "r0", "r1", "r2"}
    assert sum(program.startswith("f") for program in kept) == 1


def test_questions_with_one_verdict_go() -> None:
    found = [_candidate("a", "r", True), _candidate("b", "w", False), _candidate("b", "v", False)]
    assert [reason for _, reason in balanced(found)] == [ONE_KIND] * 3


def test_copies_go_with_their_first_and_the_unfinished_do_not_count() -> None:
    found = [
        _candidate("q", "r", True),
        _candidate("q", "w", False),
        _candidate("q", "w", False),
        _candidate("q", "half", False, finished=False),
    ]
    assert [(c.program, reason) for c, reason in balanced(found)] == [
        ("r", ""),
        ("w", ""),
        ("w", ""),
        ("half", ""),
    ]


def test_what_stays_comes_first_right_and_wrong_in_turn() -> None:
    found = [
        _candidate(question, f"{kind}{i}", kind == "r")
        for i in range(3)
        for question in "pq"
        for kind in "wwr"
    ]
    found += [_candidate("p", "r9", True)]
    given = [(c.question_id, c.verdict, bool(reason)) for c, reason in balanced(found)]
    pair = lambda question: [(question, "right", False), (question, "wrong", False)]  # noqa: E731
    assert given[:12] == pair("p") * 3 + pair("q") * 3
    assert len(given) == len(found)


def test_the_same_are_kept_whatever_the_order() -> None:
    found = [_candidate("q", f"w{i}", False) for i in range(9)] + [_candidate("q", "r", True)]
    kept = {c.program for c, reason in balanced(found) if not reason}
    assert kept == {c.program for c, reason in balanced(reversed(found)) if not reason}
    assert len(kept) == 2
