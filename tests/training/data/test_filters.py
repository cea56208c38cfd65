import pytest

from training.data.filters import execution_fault, question_fault
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
