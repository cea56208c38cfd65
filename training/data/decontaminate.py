"""Finds questions that overlap a benchmark, by n-grams of words as the paper compared them.

Before comparing, punctuation and numbers are removed and letters lowered (arXiv 2312.09241,
section 2), so that the same story with other numbers matches. A benchmark question shorter than
an n-gram is compared as a whole. With 13 words hardly any question this short matches (22 of the
paper's 12 million); with 8 words 0.35 % of them do.
"""

import re
from collections.abc import Iterable

_WORD = re.compile(r"\w+")
_APOSTROPHE = re.compile(r"['\u2019`]")


def words(text: str) -> list[str]:
    """The text's words in lower case, without punctuation and without words that hold a digit."""
    found = _WORD.findall(_APOSTROPHE.sub("", text.lower()).replace("_", " "))
    return [word for word in found if not any(character.isdigit() for character in word)]


class Overlap:
    """The n-grams of a set of questions; small enough to send to every worker."""

    def __init__(self, questions: Iterable[str], *, ngram: int) -> None:
        """Collect the n-grams.

        Args:
            questions: The benchmarks' questions.
            ngram: Number of words of an n-gram.
        """
        self._ngram = ngram
        self._grams: set[str] = set()
        for question in questions:
            self._grams.update(_grams(words(question), ngram))

    def __len__(self) -> int:
        return len(self._grams)

    def hits(self, question: str) -> bool:
        """Whether the question has an n-gram of a benchmark's, or is equal to a shorter one."""
        return any(gram in self._grams for gram in _grams(words(question), self._ngram))


def _grams(found: list[str], ngram: int) -> Iterable[str]:
    """The n-grams of a text; if it has fewer words, the whole, which no n-gram can equal."""
    if len(found) < ngram:
        return [" ".join(found)] if found else []
    return (" ".join(found[at : at + ngram]) for at in range(len(found) - ngram + 1))
