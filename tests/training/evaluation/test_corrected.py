from training.data.corrections import Correction, question_key
from training.evaluation.benchmark import Answers
from training.evaluation.corrected import corrected
from training.records import Candidate, Question, Verdict


def candidate(number: int, value: float | None, verdict: Verdict) -> Candidate:
    return Candidate(
        question_id=f"q-{number}",
        question=f"Question {number}?",
        program="    return 1",
        generator="step_1",
        temperature=0.5,
        index=0,
        status="error" if value is None else "ok",
        value=value,
        error="",
        verdict=verdict,
        num_tokens=3,
        finished=True,
    )


def answers(number: int) -> Answers:
    """To a question with gold 4: right, wrong with 6, and failed; greedy is wrong with 6."""
    return Answers(
        question=Question(id=f"q-{number}", text=f"Question {number}?", gold=4.0),
        sampled=[
            candidate(number, 4.0, "right"),
            candidate(number, 6.0, "wrong"),
            candidate(number, None, "failed"),
        ],
        greedy=candidate(number, 6.0, "wrong"),
    )


def test_candidates_are_judged_by_the_corrected_gold() -> None:
    given = [answers(0), answers(1), answers(2)]
    corrections = {
        question_key("Question 0?"): Correction(gold=6.0, source="me"),
        question_key("Question 1?"): Correction(gold=None, source="me"),
        question_key("Another?"): Correction(gold=1.0, source="me"),
    }

    found = corrected(given, corrections)

    assert found is not None and (found.num_changed, found.num_removed) == (1, 1)
    changed, same = found.answers
    assert [each.verdict for each in changed.candidates] == ["wrong", "right", "failed", "right"]
    assert changed.question.gold == 6.0
    assert same is given[2]


def test_without_a_correction_nothing_is_measured_again() -> None:
    assert corrected([answers(0)], {}) is None
    removed = {question_key("Question 0?"): Correction(gold=None, source="me")}
    assert corrected([answers(0)], removed) is None
