"""Hashes the words of many texts at once, and the n-grams of these words.

    texts = HashedWords.of([words("Ann has 3 apples"), words("Bob has 4 pears")])
    for size, grams in texts.ngrams((8, 10, 13)): ...

A word's hash is 8 bytes of BLAKE2, its lowest two bits replaced by what kind of word it is, so
that numbers can be left out without the text. n-grams are hashed by one pass over all words, each
longer n-gram from the shorter one: among 500 million of them, the chance that one equals any of
100,000 others by accident is about 1 in 10,000.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from training.data.filters import NUMBER_WORDS
from training.data.question_texts import Kept, is_number

Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]

_KIND = 3
"""The bits of a hash that hold the kind of its word."""
_PLAIN, _NUMBER, _NUMBER_WORD = 0, 1, 2
# 5 modulo 8: its powers differ in their low bits, so that no two places in an n-gram are alike.
_BASE = np.uint64(0x9E3779B97F4A7C15)
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
_FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def text_hash(text: str) -> int:
    """8 bytes of a text's BLAKE2 as a number."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _hash_of(word: str) -> int:
    kind = _NUMBER if is_number(word) else _PLAIN
    if word in NUMBER_WORDS:
        kind = _NUMBER_WORD
    # `1,250` and `1250` are the same number.
    return text_hash(word.replace(",", "")) & ~_KIND | kind


_hash_of_word = Kept(_hash_of)


def mixed(values: Hashes) -> Hashes:
    """Each value's hash, in which every bit depends on every bit (SplitMix64's finalizer)."""
    values = (values ^ (values >> _SHIFTS[0])) * _FACTORS[0]
    values = (values ^ (values >> _SHIFTS[1])) * _FACTORS[1]
    return values ^ (values >> _SHIFTS[2])


@dataclass(frozen=True, kw_only=True)
class Grams:
    """The n-grams of many texts, for one n."""

    hashes: Hashes
    """[n-grams] of all texts, ordered by `rows` but for those of short texts, at the end."""
    rows: Rows
    """[n-grams] The text of each."""

    def of_each(self, num_texts: int) -> list[frozenset[int]]:
        """The different n-grams of each text."""
        order = np.argsort(self.rows, kind="stable")
        ends = np.searchsorted(self.rows[order], np.arange(1, num_texts))
        return [frozenset(found.tolist()) for found in np.split(self.hashes[order], ends)]


class HashSet:
    """A set of hashes that answers for many at once."""

    def __init__(self, hashes: Hashes) -> None:
        self._sorted = np.unique(hashes)

    def __len__(self) -> int:
        return len(self._sorted)

    def contains(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Whether each hash is in the set; of any shape."""
        # Most are not. A table of the first bits tells it of 15 in 16, without a search.
        found = self._table[hashes >> self._shift]
        some = hashes[found]
        places = np.searchsorted(self._sorted, some)
        found[found] = self._sorted[np.minimum(places, len(self) - 1)] == some
        return found

    @cached_property
    def _shift(self) -> np.uint64:
        return np.uint64(64 - min(max(8, (16 * len(self)).bit_length()), 26))

    @cached_property
    def _table(self) -> NDArray[np.bool_]:
        table = np.zeros(1 << (64 - int(self._shift)), np.bool_)
        table[self._sorted >> self._shift] = True
        return table

    def __getstate__(self) -> Hashes:
        return self._sorted  # the table is quicker to make than to send to a worker

    def __setstate__(self, state: Hashes) -> None:
        self._sorted = state


@dataclass(frozen=True, kw_only=True)
class HashedWords:
    """The words of many texts, one text after the other."""

    hashes: Hashes
    """[words]"""
    starts: Rows
    """[texts + 1] Where each text begins; the last one is the number of words."""

    @classmethod
    def of(cls, texts: Sequence[Sequence[str]]) -> "HashedWords":
        """Hash the words of each text, as `question_texts.words` gives them."""
        starts = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(found) for found in texts], out=starts[1:])
        hashes = map(_hash_of_word.__getitem__, chain.from_iterable(texts))
        return cls(hashes=np.fromiter(hashes, np.uint64, starts[-1]), starts=starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def lengths(self) -> Rows:
        """[texts] Number of words of each text."""
        return np.diff(self.starts)

    @cached_property
    def rows(self) -> Rows:
        """[words] The text of each word."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def without_numbers(self) -> "HashedWords":
        """The words that hold no digit; number words such as `three` stay."""
        return self._select(self.hashes & np.uint64(_KIND) != _NUMBER)

    def numbers(self) -> "HashedWords":
        """The numbers, signs of arithmetic and number words only."""
        return self._select(self.hashes & np.uint64(_KIND) != _PLAIN)

    def _select(self, chosen: NDArray[np.bool_]) -> "HashedWords":
        before = np.concatenate([[0], np.cumsum(chosen)])
        return HashedWords(hashes=self.hashes[chosen], starts=before[self.starts])

    def in_order(self) -> Hashes:
        """[texts] A hash of each text's words and their order."""
        places = np.arange(len(self.hashes)) - self.starts[self.rows]
        return self._sums(mixed(self.hashes + _BASE * places.astype(np.uint64)))

    def _sums(self, values: Hashes) -> Hashes:
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(values)])
        return sums[self.starts[1:]] - sums[self.starts[:-1]]

    def ngrams(self, sizes: Sequence[int]) -> Iterator[tuple[int, Grams]]:
        """The n-grams of each size, in ascending order of the sizes.

        A text with fewer words than an n-gram gives one gram, the whole text, which no n-gram
        equals; a text without words gives none.
        """
        wanted, most, longest = set(sizes), max(sizes), max(self.lengths, default=0)
        left = self.starts[1:][self.rows] - np.arange(len(self.hashes))
        grams = np.zeros_like(self.hashes)
        short = np.flatnonzero(self.lengths < most)
        whole = np.zeros(len(self), np.uint64)
        for size in range(1, most + 1):
            if size <= longest:
                # Positions with fewer words left than `size` hold hashes that nothing reads.
                grams[: len(grams) - size + 1] *= _BASE
                grams[: len(grams) - size + 1] += self.hashes[size - 1 :]
                ending = short[self.lengths[short] == size]
                whole[ending] = grams[self.starts[ending]]
            if size in wanted:
                shorter = short[(self.lengths[short] < size) & (self.lengths[short] > 0)]
                full = np.flatnonzero(left >= size)
                yield (
                    size,
                    Grams(
                        hashes=np.concatenate([grams[full], whole[shorter]]),
                        rows=np.concatenate([self.rows[full], shorter]),
                    ),
                )
