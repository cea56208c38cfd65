"""Reads answers as numbers, checks gold answers, and compares the two.

    parse_number("$1,234.50")              # 1234.5; None if the text is not a number
    last_number("7 days\\n24\\n")          # 24.0, in a program's output
    read_gold("1,234")                     # 1234.0; ValueError if it cannot be a gold answer
    same_number(71.9999, gold=72.0)        # True
    same_answer(1999.0, 2000.0)            # False: neither would be right if the other were gold

Pure functions without heavy imports, because jailed processes import this module as well. Gold
answers are never passed to those.
"""

import math
import re
from decimal import Decimal

_INTEGRAL_TOLERANCE = 1e-3
"""Absolute, for an integral gold: rounding errors are far smaller, and a wrong program is off by
at least one."""
_INTEGRAL_RELATIVE_TOLERANCE = 1e-9
"""For integral golds above a million, where it exceeds the absolute tolerance."""
_RELATIVE_TOLERANCE = 1e-3
"""For golds with decimals, which are often rounded themselves."""

_NUMBER = re.compile(r"([-+]?)\$?([-+]?)((?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?(?:[eE][-+]?\d+)?)%?")
_LINE_END = re.compile(r"[\r\n]")
"""Line ends on a terminal. `str.splitlines` would also split at form feeds and U+2028."""
_SHOWN_CHARACTERS = 40


def same_number(value: float, gold: float) -> bool:
    """Whether `value` is a right answer to a question with this gold answer.

    For an integral gold, the value must be within 1e-3, or within 1e-9 relative if that is more.
    For any other gold, it must be within 1e-3 relative, or equal when both are rounded to two
    decimals. NaN and infinities equal nothing.
    """
    if not (math.isfinite(value) and math.isfinite(gold)):
        return False
    difference = abs(value - gold)
    if gold.is_integer():
        return difference <= max(_INTEGRAL_TOLERANCE, _INTEGRAL_RELATIVE_TOLERANCE * abs(gold))
    return difference <= _RELATIVE_TOLERANCE * abs(gold) or round(value, 2) == round(gold, 2)


def same_answer(first: float, second: float) -> bool:
    """Whether two answers count as one: each would be right if the other were gold.

    So 1999.5 differs from both 1999 and 2000, and cannot join the two.
    """
    return same_number(first, second) and same_number(second, first)


def parse_number(text: str) -> float | None:
    """The number in a text such as `1,234`, `-$5`, `12.50` or `40%` (40); None if there is none.

    A number beyond the range of a double counts as none.
    """
    number = _parsed(text)
    return number if number is not None and math.isfinite(number) else None


def last_number(output: str) -> float | None:
    """The number on the last line that is not blank; None if that line is not a number."""
    lines = (line for line in reversed(_LINE_END.split(output)) if line.strip())
    return parse_number(next(lines, ""))


def read_gold(gold: object) -> float:
    """A gold answer as a number, from text such as `1,234` or from a number.

    Raises:
        ValueError: it is not a number, or beyond the range of a double. The message quotes it.
    """
    if isinstance(gold, str):
        number = _parsed(gold)
    elif isinstance(gold, (int, float, Decimal)) and not isinstance(gold, bool):
        try:
            number = float(gold)
        except OverflowError:
            number = math.inf
    else:
        number = None
    if number is None:
        raise ValueError(f"gold is {_shown(gold)}: a number is needed")
    if not math.isfinite(number):
        raise ValueError(
            f"gold is {_shown(gold)}: a finite number is needed, of at most 1.8e308 (a double)"
        )
    return number


def _parsed(text: str) -> float | None:
    """The number, infinite if it is too large; None if the text is not a number."""
    matched = _NUMBER.fullmatch(text.strip())
    if matched is None or (matched[1] and matched[2]):
        return None
    try:
        return float(matched[1] + matched[2] + matched[3].replace(",", ""))
    except ValueError:
        return None


def _shown(value: object) -> str:
    text = repr(value)
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    half = _SHOWN_CHARACTERS // 2
    return f"{text[:half]}…{text[-half:]} ({len(text)} characters)"
