import pytest

from training.config.benchmark_sets import GoldForm
from training.data.golds import read


@pytest.mark.parametrize(
    ("answer", "form", "gold"),
    [
        ("So 42 are left.\n#### 1,042", "marked", 1042),
        ("12", "number", 12),
        ("1,250.50", "number", 1250.5),
        (7, "number", 7),
        (2.5, "any", 2.5),
        ("9 (apples)", "any", 9),
        ("$1,200 (dollars)", "any", 1200),
        ("-3 degrees", "any", -3),
        (".5 hours", "any", 0.5),
        ("40%", "any", 40),
        ("12 %", "any", 12),
        ("20€", "any", 20),
        ("3/4", "any", 0.75),
        ("-1 / 8 (cakes)", "any", -0.125),
        ("It is 5 + 1.\n#### 6", "any", 6),
    ],
)
def test_a_gold_is_read_in_its_form(answer: object, form: GoldForm, gold: float) -> None:
    assert read(answer, form) == gold


@pytest.mark.parametrize(
    ("answer", "form"),
    [
        ("42", "marked"),
        ("#### many", "marked"),
        ("9 (apples)", "number"),
        (None, "any"),
        ("None", "any"),
        ("", "any"),
        (True, "any"),
        ("5:2", "any"),
        ("1/0", "any"),
        ("3 (red); 4 (blue)", "any"),
        ("3 red and 4 blue", "any"),
        ("10:30 AM", "any"),
        (["9"], "any"),
    ],
)
def test_what_is_no_single_number_is_an_error(answer: object, form: GoldForm) -> None:
    with pytest.raises(ValueError, match="gold is|no number after ####"):
        read(answer, form)
