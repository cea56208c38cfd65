"""Reads gold answers in the forms in which benchmarks state them.

    read("So 42 are left.\\n#### 42", "marked")    # 42.0
    read("9 (apples)", "any")                      # 9.0

What is no single number is an error, never a guess: `None`, `5:2`, `3 (red); 4 (blue)`.
"""

import re

from training.config.benchmark_sets import GoldForm
from training.data import gsm8k
from training.execution.numbers import read_gold

_MARK = "####"
_WITH_UNIT = re.compile(
    r"\s*(?P<number>[-+]?\$?\d[\d,]*(?:\.\d+)?|[-+]?\.\d+)\s*"
    r"(?:\([^()]*\)|[^\W\d_][^\d;:]*|[%°€£¥]\s*)"
)
_FRACTION = re.compile(r"\s*(?P<above>[-+]?\d+)\s*/\s*(?P<below>\d+)\s*(?:\([^()]*\))?\s*")


def read(answer: object, form: GoldForm) -> float:
    """The gold answer as a number.

    Raises:
        ValueError: it is no number in this form, or a double cannot hold it. The message quotes it.
    """
    if form == "number" or not isinstance(answer, str):
        return read_gold(answer)
    if form == "marked" or _MARK in answer:
        return gsm8k.gold_of(answer)
    if (found := _FRACTION.fullmatch(answer)) and int(found["below"]):
        return read_gold(int(found["above"]) / int(found["below"]))
    found = _WITH_UNIT.fullmatch(answer)
    return read_gold(found["number"] if found else answer)
