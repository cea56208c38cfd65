"""Normalises questions for comparison: case, white space and punctuation do not count.

normalised("How many\\n apples?") == normalised("how many apples")
"""

import re

_WORD = re.compile(r"\w+")


def normalised(text: str) -> str:
    """The text's words and numbers in lower case, one space between two of them."""
    return " ".join(_WORD.findall(text.casefold().replace("_", " ")))
