"""Splits questions into words, and brings them into a form in which equal ones are equal texts.

    words("Tom's 1,250 apples: 3+4?") == ["toms", "1,250", "apples", "3", "+", "4"]
    normalised("How many\\n apples?") == normalised("how-many apples")

Every comparison of questions is of these words: duplicates, near duplicates, n-grams and held-out
questions. Numbers stay whole, and so do the signs of arithmetic, since a question with another
number or sign is another question.
"""

import re
from collections.abc import Sequence

_SIGNS = "+*/=^%<>\u00d7\u00f7"
# A number keeps its decimal point and its thousands commas. A minus belongs to a number unless a
# word ends before it, as in `20-30` and `15-year`.
_WORD = re.compile(
    r"\w+(?:(?<=\d)(?:\.(?=\d)|,(?=\d{3}(?!\d)))\w+)*"
    rf"|[{re.escape(_SIGNS)}]|(?<!\w)[-\u2212](?=\.?\d)"
)
_APOSTROPHES = "'\u2019`"


def words(text: str) -> list[str]:
    """The text's words, numbers and signs in lower case, without any other punctuation."""
    text = text.lower().replace("_", " ")
    for apostrophe in _APOSTROPHES:  # a third of what a regular expression takes
        text = text.replace(apostrophe, "")
    return _WORD.findall(text)


def is_number(word: str) -> bool:
    """Whether a word holds a digit or is a sign of arithmetic."""
    return not word.isalnum() or any(character.isdigit() for character in word)


def joined(found: Sequence[str]) -> str:
    """The words as one text, equal for texts that differ in case, space and punctuation only.

    White space between letters is left out, so that `half-time`, `half time` and `halftime` are
    equal; around a number it stays, so that `1 2` and `12` differ.
    """
    return "".join([word if word.isalpha() else f" {word} " for word in found]).replace(",", "")


def normalised(text: str) -> str:
    """The text in a form that is equal for texts which differ in case, space and punctuation."""
    return joined(words(text))
