import pytest

from training.data import reasons
from training.data.filters import execution_fault, question_fault, repaired_question
from training.records import Execution


@pytest.mark.parametrize(
    ("question", "fault"),
    [
        ("Ann has 3 apples and eats one. How many are left?", None),
        ("Ann has three apples and eats a few. How many?", None),
        ("Bob has half as many pears as Ann. How many?", None),
        ("How many apples?", "question too short"),
        ("Ann has some apples and eats a few. How many?", "question without a number"),
        ("Someone often weighs sixths of an onion. Why?", "question without a number"),
    ],
)
def test_questions_need_length_and_a_number(question: str, fault: str | None) -> None:
    assert question_fault(question, min_characters=20) == fault


def test_only_a_finite_number_passes() -> None:
    assert execution_fault(Execution(status="ok", value=3.0)) is None
    for status in ("nonnumeric", "error", "timeout", "memory", "output"):
        assert str(execution_fault(Execution(status=status))).startswith("program ")


@pytest.mark.parametrize(
    ("question", "repaired", "what"),
    [
        (r"A hat costs \$5 and 3\% tax.", "A hat costs $5 and 3% tax.", [reasons.ESCAPE]),
        ("``` Ann has 3 apples. ```", "Ann has 3 apples.", [reasons.DELIMITER]),
        ('"""\nAnn has 3 apples.', "Ann has 3 apples.", [reasons.DELIMITER]),
        ("==== -----\nIt's 3\\'o.", "It's 3'o.", [reasons.ESCAPE, reasons.DELIMITER]),
        ("-5 degrees, then \\frac{1}{2} -- more", "-5 degrees, then \\frac{1}{2} -- more", []),
        ('He says "3".', 'He says "3".', []),
    ],
)
def test_escapes_and_delimiters_are_repaired(question: str, repaired: str, what: list[str]) -> None:
    assert repaired_question(question) == (repaired, what)
