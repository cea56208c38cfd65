"""Splits questions into words, and brings them into a form in which equal ones are equal texts.

    words("Tom's 1,250 apples: 3+4?") == ["toms", "1,250", "apples", "3", "+", "4"]
    normalised("How many\\n apples?") == normalised("how-many apples")

Every comparison of questions is of these words: duplicates, near duplicates, n-grams and held-out
questions. Numbers stay whole, and so do the signs of arithmetic, since a question with another
number or sign is another question.
"""

import re
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Generic, TypeVar

Value = TypeVar("Value")

_MOST_KEPT = 1 << 19
"""Texts whose values are kept, so that memory does not grow with the data (about 100 MB)."""

_SIGNS = "+*/=^%<>\u00d7\u00f7"
# A number keeps its decimal point and its thousands commas. A minus belongs to a number unless a
# word ends before it, as in `20-30` and `15-year`.
_WORD = re.compile(
    r"\w+(?:(?<=\d)(?:\.(?=\d)|,(?=\d{3}(?!\d)))\w+)*"
    rf"|[{re.escape(_SIGNS)}]|(?<!\w)[-\u2212](?=\.?\d)"
)
_APOSTROPHES = "'\u2019`"


class Kept(dict[str, Value], Generic[Value]):
    """What a function gives for a text, computed when the text first occurs."""

    def __init__(self, function: Callable[[str], Value]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, text: str) -> Value:
        if len(self) == _MOST_KEPT:
            self.clear()
        self[text] = value = self._function(text)
        return value


_words_of_piece = Kept[list[str]](_WORD.findall)
"""Of text between white space, which no word spans."""
_spaced = Kept[str](lambda word: word if word.isalpha() else f" {word} ")


def words(text: str) -> list[str]:
    """The text's words, numbers and signs in lower case, without any other punctuation."""
    text = text.lower().replace("_", " ")
    for apostrophe in _APOSTROPHES:  # a third of what a regular expression takes
        text = text.replace(apostrophe, "")
    return list(chain.from_iterable(map(_words_of_piece.__getitem__, text.split())))


def is_number(word: str) -> bool:
    """Whether a word holds a digit or is a sign of arithmetic."""
    return not word.isalnum() or any(character.isdigit() for character in word)


def joined(found: Sequence[str]) -> str:
    """The words as one text, equal for texts that differ in case, space and punctuation only.

    White space between letters is left out, so that `half-time`, `half time` and `halftime` are
    equal; around a number it stays, so that `1 2` and `12` differ.
    """
    return "".join(map(_spaced.__getitem__, found)).replace(",", "")


def normalised(text: str) -> str:
    """The text in a form that is equal for texts which differ in case, space and punctuation."""
    return joined(words(text))
