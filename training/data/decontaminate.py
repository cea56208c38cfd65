"""Finds questions that overlap a benchmark's: a common n-gram of words, or nearly the same text.

    overlap = Overlap(benchmark_questions, ngram=13, similarity=0.5)
    found = overlap.compare(Questions(texts))

Before comparing, punctuation and numbers are removed and letters lowered (arXiv 2312.09241,
section 2), so that the same story with other numbers matches. A benchmark question shorter than
an n-gram is compared as a whole. With 13 words hardly any question this short matches (22 of the
paper's 12 million); with 8 words 0.35 % of them do.

Near duplicates have at least `similarity` of their 3-grams in common with those of one question
(Jaccard). Bands of MinHash values find the questions to compare: 87 % of those at 0.5 and 99 % of
those at 0.6. Whatever they find is then compared exactly.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data import reasons
from training.data.question_texts import is_number
from training.data.question_texts import words as all_words
from training.data.signatures import Questions, bands
from training.data.word_hashes import HashedWords, HashSet

COUNTED_NGRAMS = (8, 10, 13)
"""Sizes for which questions with a common n-gram are counted, whichever size drops them."""
_BANDS, _VALUES_OF_BAND = 32, 4
_NONE = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What of some questions overlaps a benchmark."""

    faults: list[str | None]
    """For each question, why it is dropped."""
    counts: dict[str, int]
    """How many have an n-gram in common, by the name of the n-gram."""


def words(text: str) -> list[str]:
    """The text's words in lower case, without punctuation and without words that hold a digit."""
    return [word for word in all_words(text) if not is_number(word)]


class Overlap:
    """The n-grams of a set of questions; small enough to send to every worker."""

    def __init__(self, questions: Iterable[str], *, ngram: int, similarity: float = 0.0) -> None:
        """Collect the n-grams.

        Args:
            questions: The benchmarks' questions.
            ngram: Number of words of an n-gram.
            similarity: Similarity from which on a question is a near duplicate; 0: none is.
        """
        self._texts = list(questions)
        known = Questions(self._texts)
        self._ngram = ngram
        self._plain = _sets(known.without_numbers, {ngram, *COUNTED_NGRAMS})
        self._with_numbers = _sets(known.hashed, COUNTED_NGRAMS)
        self._near = _Near(known, similarity) if similarity else None

    def __len__(self) -> int:
        return len(self._plain[self._ngram])

    def hits(self, question: str) -> bool:
        """Whether a question is to be dropped."""
        return self.compare(Questions([question])).faults != [None]

    def compare(self, questions: Questions) -> Found:
        """Compare many questions with the benchmarks'."""
        if not self._texts:
            return Found(faults=[None] * len(questions), counts={})
        plain = dict(_hits(self._plain, questions.without_numbers))
        counts = {_name(size): int(plain[size].sum()) for size in COUNTED_NGRAMS}
        for size, hit in _hits(self._with_numbers, questions.hashed):
            counts[f"{_name(size)} with numbers"] = int(hit.sum())
        near = np.zeros(len(questions), np.bool_)
        if self._near:
            near = self._near.nearest(questions) != _NONE
            counts["near duplicates"] = int(near.sum())
        faults = [
            reasons.OVERLAP if overlaps else reasons.NEAR_BENCHMARK if is_near else None
            for overlaps, is_near in zip(plain[self._ngram].tolist(), near.tolist(), strict=True)
        ]
        return Found(faults=faults, counts=counts)

    def explained(self, question: str) -> str:
        """A question that is dropped, with what it has in common with a benchmark."""
        found = words(question)
        ((_, grams),) = HashedWords.of([found]).ngrams([self._ngram])
        # The grams are in the order of the words at which they begin.
        starts = np.flatnonzero(self._plain[self._ngram].contains(grams.hashes)).tolist()
        if starts:
            return f"{question}\n= {' '.join(found[starts[0] :][: self._ngram])}"
        nearest = self._near.nearest(Questions([question]))[0] if self._near else _NONE
        return question if nearest == _NONE else f"{question}\n~ {self._texts[nearest]}"


def _name(size: int) -> str:
    return f"{size} words"


def _sets(known: HashedWords, sizes: Iterable[int]) -> dict[int, HashSet]:
    return {size: HashSet(grams.hashes) for size, grams in known.ngrams(sorted(sizes))}


def _hits(sets: dict[int, HashSet], texts: HashedWords) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """For each size, whether each text has an n-gram of the set."""
    for size, grams in texts.ngrams(sorted(sets)):
        hit = np.zeros(len(texts), np.bool_)
        hit[grams.rows[sets[size].contains(grams.hashes)]] = True
        yield size, hit


class _Near:
    """The benchmarks' questions by their bands, and the 3-grams of each."""

    def __init__(self, known: Questions, similarity: float) -> None:
        self._similarity = similarity
        self._shingles = known.shingles.of_each(len(known))
        keys = _bands(known)
        self._keys = HashSet(keys)
        self._of_key: dict[int, list[int]] = defaultdict(list)
        for of_band in keys.tolist():
            for number, key in enumerate(of_band):
                self._of_key[key].append(number)

    def nearest(self, questions: Questions) -> NDArray[np.int64]:
        """[questions] The benchmark question that each is a near duplicate of; _NONE: none."""
        keys = _bands(questions)
        found = self._keys.contains(keys)
        nearest = np.full(len(questions), _NONE)
        for number in np.flatnonzero(found.any(axis=0)).tolist():
            shingles = questions.shingles
            mine = frozenset(shingles.hashes[shingles.rows == number].tolist())
            nearest[number] = self._nearest(mine, keys[found[:, number], number].tolist())
        return nearest

    def _nearest(self, mine: frozenset[int], keys: Sequence[int]) -> int:
        candidates = {number for key in keys for number in self._of_key[key]}
        similarity, nearest = max((_jaccard(mine, self._shingles[n]), n) for n in candidates)
        return nearest if similarity >= self._similarity else _NONE


def _jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    return len(one & other) / max(1, len(one | other))


def _bands(questions: Questions) -> NDArray[np.uint64]:
    return bands(questions.minhashes(_BANDS * _VALUES_OF_BAND), _BANDS)
