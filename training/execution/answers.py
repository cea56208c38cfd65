r"""Finds the number that a prose answer ends with.

    extract("… so she makes $18.", "last_number")     # 18.0
    extract(r"Thus \boxed{1{,}250}.", "boxed")        # 1250.0
    extract("16 - 3 = 13\n#### 13", "hashes")         # 13.0; None: there is no such number

Pure functions; what a number is, and when two are equal, is decided in `numbers`.
"""

import re

from training.config import Extractor
from training.execution.numbers import parse_number

_NUMBER = re.compile(
    # A minus after a digit, a letter or a bracket subtracts: `16-3`, `(a)-3`.
    r"(?:(?<![\w)\]}])-)?\$?(?:(?<=\$)-)?"
    r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+(?!\w))?%?"
)
_BOXED = "\\boxed{"
_TEXT = re.compile(r"\\(?:text|textbf|textrm|mathrm|mbox)\s*\{[^{}]*\}")
"""Words in a formula, as in `18\\text{ dollars}`."""
_SPACES = re.compile(r"\\[,!;: ]|(?<=\d)\{,\}(?=\d)")
"""LaTeX's thin spaces, and its comma in a number: `1{,}250`."""


def extract(text: str, how: Extractor) -> float | None:
    r"""The answer that a text states; None: it states none.

    Args:
        text: Prose, perhaps with LaTeX or GSM8K's calculator marks.
        how: `last_number`: the last number anywhere. `boxed`: the number in the last `\boxed{}`.
            `hashes`: the number after the last `####`, on its line. For these two there has to be
            one number, beside which units may stand.
    """
    if how == "last_number":
        found = _numbers(text)
        return parse_number(found[-1]) if found else None
    stated = _boxed(text) if how == "boxed" else _after_hashes(text)
    if stated is None:
        return None
    found = _numbers(_TEXT.sub(" ", stated))
    return parse_number(found[0]) if len(found) == 1 else None


def _numbers(text: str) -> list[str]:
    text = text.replace("\u2212", "-").replace("\\$", "$").replace("\\%", "%")
    return _NUMBER.findall(_SPACES.sub(_space, text))


def _space(found: re.Match[str]) -> str:
    return "," if found[0] == "{,}" else ""


def _after_hashes(text: str) -> str | None:
    _, mark, rest = text.rpartition("####")
    return rest.strip().partition("\n")[0] if mark else None


def _boxed(text: str) -> str | None:
    """The content of the last `\\boxed{}`, whose braces may hold others; None: it is not closed."""
    start = text.rfind(_BOXED)
    if start < 0:
        return None
    depth = 0
    for place in range(start + len(_BOXED) - 1, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if not depth:
            return text[start + len(_BOXED) : place]
    return None
