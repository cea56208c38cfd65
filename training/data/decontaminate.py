"""Which questions overlap a benchmark: n-grams of words, as the paper compared them.

Punctuation and numbers are stripped and letters lowered before comparing (arXiv 2312.09241,
section 2), so that the same story with other numbers is found. A benchmark question shorter
than an n-gram is compared whole. A 13-gram hardly ever fires on questions this short (22 of
the paper's 12 million); 8 words hit 0.35 % of them.
"""

import re
from collections.abc import Iterable

_WORD = re.compile(r"\w+")
_APOSTROPHE = re.compile(r"['\u2019`]")


def words(text: str) -> list[str]:
    """The text's words, lowered, without punctuation and without words that hold a digit."""
    found = _WORD.findall(_APOSTROPHE.sub("", text.lower()).replace("_", " "))
    return [word for word in found if not any(character.isdigit() for character in word)]


class Overlap:
    """The n-grams of a set of questions; small enough to send to every worker."""

    def __init__(self, questions: Iterable[str], *, ngram: int) -> None:
        """Collect the n-grams.

        Args:
            questions: The benchmark's.
            ngram: Words of an n-gram that counts as overlap.
        """
        self._ngram = ngram
        self._grams: set[str] = set()
        for question in questions:
            self._grams.update(_grams(words(question), ngram))

    def __len__(self) -> int:
        return len(self._grams)

    def hits(self, question: str) -> bool:
        """Whether the question shares an n-gram with a benchmark's, or is a short one itself."""
        return any(gram in self._grams for gram in _grams(words(question), self._ngram))


def _grams(found: list[str], ngram: int) -> Iterable[str]:
    """Its n-grams; of fewer words the whole, which no n-gram can equal."""
    if len(found) < ngram:
        return [" ".join(found)] if found else []
    return (" ".join(found[at : at + ngram]) for at in range(len(found) - ngram + 1))
