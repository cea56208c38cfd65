"""The number that a prose answer states."""

import json

import pytest

from tests.training.data.real import real_data
from training.execution.answers import extract
from training.execution.numbers import same_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She has 3 boxes of 4, so 12 pens.", 12),
        ("16-3=13", 13),
        ("It is 20-30", 30),
        ("The change is -5 degrees", -5),
        ("a loss of \u22125", -5),
        ("He pays $1,234.50.", 1234.5),
        ("He owes -$5", -5),
        ("He owes $-5", -5),
        (r"He pays \$18", 18),
        ("That is 40%.", 40),
        ("Half of it is .5", 0.5),
        ("<<48/2=24>> <<48+24=72>>", 72),
        ("1, 2, 3", 3),
        ("12,5", 5),
        (r"In all 1{,}250 or 1\,250", 1250),
        ("about 1.5e3 grams", 1500),
        ("x18", 18),
        ("no number", None),
        ("", None),
        ("-", None),
        ("1e999", None),
    ],
)
def test_last_number(text: str, number: float | None) -> None:
    assert extract(text, "last_number") == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (r"So \boxed{42}.", 42),
        (r"First \boxed{1}, then \boxed{2} in 3 days", 2),
        (r"\boxed{\$1{,}250.50}", 1250.5),
        (r"\boxed{18 \text{ dollars per 2 hours}}", 18),
        (r"\boxed{\mathbf{7}}", 7),
        (r"\boxed{x = 5}", 5),
        (r"\boxed{75\%}", 75),
        (r"\boxed{\frac{1}{2}}", None),
        (r"\boxed{\text{none}}", None),
        (r"\boxed{42", None),
        ("42", None),
    ],
)
def test_boxed(text: str, number: float | None) -> None:
    assert extract(text, "boxed") == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("16 - 3 = 13\n#### 42", 42),
        ("#### 1\n#### -1,234\nin 3 days", -1234),
        ("#### $42 dollars", 42),
        ("#### 3 of 4", None),
        ("####", None),
        ("#### none\n7", None),
        ("42", None),
    ],
)
def test_hashes(text: str, number: float | None) -> None:
    assert extract(text, "hashes") == number


def test_a_long_text_of_open_braces_ends() -> None:
    assert extract(r"\boxed{" + "{" * 100_000, "boxed") is None
    assert extract("1," * 100_000, "last_number") == 1


def test_verdicts_on_real_solutions_are_their_authors() -> None:
    """Solutions of two models, with and without a verifier, and what their authors say of them."""
    path = real_data("gsm8k/example_model_solutions.jsonl")
    compared = 0
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        gold = extract(row["ground_truth"], "last_number")
        assert gold is not None
        for model in (model for model in row.values() if isinstance(model, dict)):
            answer = extract(model["solution"], "last_number")
            assert (answer is not None and same_number(answer, gold)) == model["is_correct"]
            compared += 1
    assert compared == 4 * 1319
