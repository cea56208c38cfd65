"""Keys that are equal for equal and for similar questions, computed for many at once.

    keys = signatures(Questions(texts), similarity=0.9)      # [questions, 1 + BANDS]

Column 0 is equal for questions that differ in case, space and punctuation only. Two questions are
near duplicates if any of the other columns is equal: their bands of MinHash values (Broder 1997;
Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, section 3.4) over 3-grams of words
without numbers, each combined with the question's numbers in their order. So the same story with
other numbers, or with the same ones in another order, is another question.

A band is equal for two questions of Jaccard similarity s with probability s^r, where r is the
number of MinHash values in a band, so any of B bands with 1 - (1 - s^r)^B. `values_of_band` sets r
so that two thirds are found at the similarity that is asked for. What is found is not compared
again, since texts are not kept; with 8 bands at 0.9, 0.6 % are found of those at 0.7.
"""

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from training.data.question_texts import joined, words
from training.data.word_hashes import Grams, HashedWords, Hashes, mixed, text_hash
from training.records import Example

BANDS = 8
"""Columns for near duplicates."""
SHINGLE_WORDS = 3


class Questions:
    """Questions whose words are found and hashed once, for all that is compared."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.words = [words(text) for text in texts]
        self.hashed = HashedWords.of(self.words)
        self._minhashes = np.empty((0, len(texts)), np.uint64)

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def without_numbers(self) -> HashedWords:
        """Their words without the numbers."""
        return self.hashed.without_numbers()

    @cached_property
    def shingles(self) -> Grams:
        """The n-grams of words without numbers over which similarity is measured."""
        return next(iter(self.without_numbers.ngrams([SHINGLE_WORDS])))[1]

    def minhashes(self, num_values: int) -> Hashes:
        """[values, questions] The smallest of each question's shingles under that many hashes."""
        if num_values > (known := len(self._minhashes)):
            more = _minhashes(self.shingles, len(self), range(known, num_values))
            self._minhashes = np.concatenate([self._minhashes, more])
        return self._minhashes[:num_values]


def signatures(questions: Questions, *, similarity: float) -> NDArray[np.uint64]:
    """The keys of questions, a row each; equal in a column: duplicates.

    Args:
        questions: Any number of them.
        similarity: Jaccard similarity from which on two questions are near duplicates; 0: the
            keys of duplicates only.

    Returns:
        [questions, 1] or [questions, 1 + BANDS]
    """
    exact = np.array([text_hash(joined(found)) for found in questions.words], np.uint64)
    if not similarity:
        return exact[:, None]
    values = questions.minhashes(BANDS * values_of_band(similarity))
    keys = mixed(bands(values, BANDS) + questions.hashed.numbers().in_order())
    return np.concatenate([exact[None], keys]).T


def program_keys(examples: Sequence[Example]) -> NDArray[np.uint64]:
    """[examples, 1] A verifier's keys: equal for equal programs of equal questions."""
    keys = [text_hash(f"{example.question}\0{example.program}") for example in examples]
    return np.array(keys, np.uint64)[:, None]


def values_of_band(similarity: float) -> int:
    """How many MinHash values a band has, for `BANDS` of them."""
    return max(1, round(math.log(1 / BANDS) / math.log(similarity)))


def bands(values: Hashes, num_bands: int) -> Hashes:
    """[bands, texts] One hash for each band of MinHash values [values, texts]."""
    per_band = values.reshape(num_bands, len(values) // num_bands, values.shape[1])
    keys = np.repeat(np.arange(num_bands, dtype=np.uint64)[:, None], values.shape[1], axis=1)
    for number in range(per_band.shape[1]):
        keys = mixed(keys + per_band[:, number])
    return keys


def _minhashes(grams: Grams, num_texts: int, numbers: range) -> Hashes:
    order = np.argsort(grams.rows, kind="stable")
    hashes, rows = grams.hashes[order], grams.rows[order]
    present, starts = np.unique(rows, return_index=True)
    values = np.full((len(numbers), num_texts), np.iinfo(np.uint64).max, np.uint64)
    # Multiplying by an odd number permutes the 8-byte numbers.
    factors = mixed(np.array(numbers, np.uint64) + np.uint64(1)) | np.uint64(1)
    for row, factor in zip(values, factors, strict=True):
        if len(present):
            row[present] = np.minimum.reduceat(hashes * factor, starts)
    return values
