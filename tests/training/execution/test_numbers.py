import gzip
import json
import math
import random
from decimal import Decimal
from fractions import Fraction

import pytest

from tests.training.data.real import real_data
from training.execution.executor import judge
from training.execution.numbers import (
    last_number,
    parse_number,
    read_gold,
    same_answer,
    same_number,
)
from training.records import Execution


@pytest.mark.parametrize(
    ("value", "gold", "same"),
    [
        (72.0, 72.0, True),
        (72.0009, 72.0, True),
        (71.9991, 72.0, True),
        (72.002, 72.0, False),
        (71.0, 72.0, False),
        (0.0009, 0.0, True),
        (0.002, 0.0, False),
        (-5.0, 5.0, False),
        (1999.0, 2000.0, False),
        (120_006.0, 120_000.0, False),
        (2e6 + 1, 2e6, False),
        (1e9 + 1, 1e9, True),
        (1e9 + 2, 1e9, False),
        (1e15 + 1e5, 1e15, True),
        (1e15 + 2e6, 1e15, False),
        (2.5, 2.5, True),
        (2.504, 2.5, True),  # the same cents
        (2.506, 2.5, False),
        (0.3333, 1 / 3, True),
        (0.33, 1 / 3, True),
        (0.34, 1 / 3, False),
        (1234.6, 1234.5, True),
        (1236.0, 1234.5, False),
        (0.0041, 0.0041, True),
        (0.009, 0.004, False),
        (0.0, 5.5e-17, True),
        (float("nan"), float("nan"), False),
        (float("inf"), float("inf"), False),
    ],
)
def test_same_number(value: float, gold: float, same: bool) -> None:
    assert same_number(value, gold) is same


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("72", 72.0),
        (" 1,234 ", 1234.0),
        ("1,234,567.5", 1234567.5),
        ("-1,234", -1234.0),
        ("$5", 5.0),
        ("-$5.50", -5.5),
        ("$-5.50", -5.5),
        ("+3", 3.0),
        ("40%", 40.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e-3", 0.001),
        ("1,23", None),
        ("12,345,6", None),
        ("5 apples", None),
        ("--5", None),
        ("-$-5", None),
        ("", None),
        (".", None),
        ("$", None),
        ("nan", None),
        ("1e999", None),
        ("1_000", None),
    ],
)
def test_parse_number(text: str, number: float | None) -> None:
    assert parse_number(text) == number


@pytest.mark.parametrize(
    ("output", "number"),
    [
        ("1\n$1,200\n\n \n", 1200.0),
        ("1\r\n2\r\n", 2.0),
        ("50%\r100%", 100.0),
        (str(math.factorial(130)), float(math.factorial(130))),
        ("1" + "0" * 250, 1e250),
        ("0" * 60_000 + "7", 7.0),
        ("0." + "3" * 60_000, 1 / 3),
        ("1" * 400, None),
        ("3\x0c4", None),  # one line
        ("a\u20285", None),
        ("5\nfive", None),
        ("", None),
        ("\n", None),
    ],
)
def test_last_number(output: str, number: float | None) -> None:
    assert last_number(output) == number


@pytest.mark.parametrize(
    ("gold", "number"),
    [("1,234", 1234.0), ("-$5", -5.0), (7, 7.0), (2.5, 2.5), (Decimal("2.50"), 2.5)],
)
def test_gold_is_read_from_texts_and_numbers(gold: object, number: float) -> None:
    assert read_gold(gold) == number


@pytest.mark.parametrize(
    ("gold", "message"),
    [
        ("5 apples", r"gold is '5 apples': a number is needed"),
        (True, "gold is True: a number is needed"),
        (None, "gold is None: a number is needed"),
        ([5], r"gold is \[5\]: a number is needed"),
        (math.nan, "gold is nan: a finite number is needed"),
        ("1" * 400, r"gold is '1{19}…1{19}' \(402 characters\): a finite number is needed, of at"),
        (10**400, r"gold is 10{19}…0{20} \(401 characters\): a finite number is needed, of at"),
        ("1e400", "gold is '1e400': a finite number is needed, of at most 1.8e308"),
        ("x" * 400, r"gold is 'x{19}…x{19}' \(402 characters\): a number is needed"),
    ],
)
def test_what_is_no_gold_is_shown_shortened(gold: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_gold(gold)
    assert len(str(caught.value)) < 150


def test_two_answers_are_one_only_if_each_would_be_right_for_the_other() -> None:
    assert same_answer(1999.0, 1999.0005) and same_answer(1999.0005, 1999.0)
    assert same_answer(1999.4, 1999.6)
    assert same_answer(0.0, 0.1 + 0.2 - 0.3) and same_answer(0.1 + 0.2 - 0.3, 0.0)
    for first, second in [(1999.0, 2000.0), (1999.5, 2000.0), (1999.5, 1999.0), (0.0, 0.004)]:
        assert not same_answer(first, second) and not same_answer(second, first)


def exact_rule(value: Fraction, gold: Fraction) -> bool:
    """The rule in whole numbers, written down a second time."""
    thousandths = abs(value - gold) * 1000
    if gold.denominator == 1:
        return thousandths <= 1 or abs(value - gold) * 10**9 <= abs(gold)
    cents = [Decimal(float(number)).quantize(Decimal("0.01")) for number in (value, gold)]
    return thousandths <= abs(gold) or cents[0] == cents[1]


def former_rule(value: Fraction, gold: Fraction) -> bool:
    """Within 1e-3 relative, or absolute below 1: what this replaced."""
    return abs(value - gold) * 1000 <= max(1, abs(gold))


def test_the_rule_against_exact_arithmetic() -> None:
    rng = random.Random(13)
    outcomes: list[bool] = []
    for _ in range(20_000):
        gold = rng.choice([1, -1]) * rng.choice(
            [float(rng.randint(0, 10 ** rng.randint(1, 14))), rng.random() * 3, rng.random() * 1e5]
        )
        error = rng.choice([1e-4, 9e-4, 1.1e-3, 4e-3, 6e-3, 0.5, 1.0])
        value = gold + rng.choice([1, -1]) * error * rng.choice([1.0, abs(gold), abs(gold) * 1e-6])
        outcomes.append(exact_rule(Fraction(value), Fraction(gold)))
        assert same_number(value, gold) is outcomes[-1], (value, gold)
    assert 5_000 < sum(outcomes) < 15_000


def test_what_the_rule_changes_in_the_published_solutions() -> None:
    """All answers of four models to GSM8K's test questions, as judged by the set's authors."""
    num_right = num_right_formerly = 0
    changed: list[tuple[str, Fraction, Fraction]] = []
    text = real_data("gsm8k/example_model_solutions.jsonl").read_text("utf-8")
    for row in map(json.loads, text.strip().split("\n")):
        gold = Fraction(row["ground_truth"].rpartition("\nA:")[2].replace(",", ""))
        for model in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
            _, mark, answer = row[model]["solution"].rpartition("\nA:")
            value = parse_number(answer) if mark else None
            right = value is not None and same_number(value, float(gold))
            assert right is row[model]["is_correct"]
            if value is None:
                continue
            exact = Fraction(value)
            assert right is exact_rule(exact, gold)
            formerly = former_rule(exact, gold)
            num_right += right
            num_right_formerly += formerly
            if right != formerly:
                changed.append((model, exact, gold))
    assert (num_right, num_right_formerly) == (2001, 2003)
    assert sorted(changed) == [("175b_finetuning", 120_006, 120_000), ("6b_finetuning", 8399, 8400)]


def test_the_rule_changes_nothing_in_the_recorded_programs() -> None:
    path = real_data("programs/programs.jsonl.gz")
    num_golds = num_right = 0
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        for row in map(json.loads, stream):
            if row["gold"] is None or row["exec_status"] != "ok":
                continue
            value = float(row["exec_value"])
            verdict = judge(Execution(status="ok", value=value), row["gold"])
            assert (verdict == "right") is row["exec_correct"]
            if math.isfinite(value):
                exact, gold = Fraction(value), Fraction(row["gold"])
                assert (verdict == "right") is exact_rule(exact, gold) is former_rule(exact, gold)
            num_golds += 1
            num_right += verdict == "right"
    assert num_golds > 3_000 and num_right == 1_112
