"""Answers are numbers: read from text, checked as gold, compared.

    parse_number("$1,234.50")              # 1234.5; None for what is no number
    last_number("7 days\\n24\\n")          # 24.0, of what a program printed
    read_gold("1,234")                     # 1234.0; ValueError for what cannot be a gold answer
    same_number(71.9999, gold=72.0)        # True
    same_answer(1999.0, 2000.0)            # False: neither would be right if the other were gold

Pure functions without heavy imports: the jailed processes load this module too. Gold itself is
never handed to one of them.
"""

import math
import re
from decimal import Decimal

_INTEGRAL_TOLERANCE = 1e-3
"""Absolute, for an integral gold: what floating-point arithmetic loses is far less, and the
smallest error of a program is one."""
_INTEGRAL_RELATIVE_TOLERANCE = 1e-9
"""For integral golds above a million, where it is more than the absolute one."""
_RELATIVE_TOLERANCE = 1e-3
"""Of golds with decimals, which are often rounded themselves."""

_NUMBER = re.compile(r"([-+]?)\$?([-+]?)((?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?(?:[eE][-+]?\d+)?)%?")
_LINE_END = re.compile(r"[\r\n]")
"""What ends a line on a terminal. `str.splitlines` would cut at form feeds and U+2028, too."""
_SHOWN_CHARACTERS = 40


def same_number(value: float, gold: float) -> bool:
    """Whether `value` is a right answer where `gold` is; nothing equals a NaN or an infinity.

    An integral gold asks for a value within 1e-3, or within 1e-9 relative where that is more.
    Any other asks for a value within 1e-3 relative, or that is equal to it when both are rounded
    to cents.
    """
    if not (math.isfinite(value) and math.isfinite(gold)):
        return False
    difference = abs(value - gold)
    if gold.is_integer():
        return difference <= max(_INTEGRAL_TOLERANCE, _INTEGRAL_RELATIVE_TOLERANCE * abs(gold))
    return difference <= _RELATIVE_TOLERANCE * abs(gold) or round(value, 2) == round(gold, 2)


def same_answer(first: float, second: float) -> bool:
    """Whether two answers count as one: each would be right if the other were gold.

    So 1999.5 is another answer than 1999 and than 2000, and cannot merge the two.
    """
    return same_number(first, second) and same_number(second, first)


def parse_number(text: str) -> float | None:
    """A number as people write it (`1,234`, `-$5`, `12.50`, `40%` is 40); None if it is none.

    A number beyond the range of a double is none either.
    """
    number = _parsed(text)
    return number if number is not None and math.isfinite(number) else None


def last_number(output: str) -> float | None:
    """The number on the last line that is not blank; None if there is no line or no number."""
    lines = (line for line in reversed(_LINE_END.split(output)) if line.strip())
    return parse_number(next(lines, ""))


def read_gold(gold: object) -> float:
    """A gold answer as a number, from text such as `1,234` or from a number.

    Raises:
        ValueError: it is no number, or a double cannot hold it. The message shows it.
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
    """The number, infinite where it is too large; None if the text is none."""
    found = _NUMBER.fullmatch(text.strip())
    if found is None or (found[1] and found[2]):
        return None
    try:
        return float(found[1] + found[2] + found[3].replace(",", ""))
    except ValueError:
        return None


def _shown(value: object) -> str:
    text = repr(value)
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    half = _SHOWN_CHARACTERS // 2
    return f"{text[:half]}…{text[-half:]} ({len(text)} characters)"
