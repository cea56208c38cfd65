import pickle
from collections.abc import Sequence

import numpy as np
import pytest

from training.data.word_hashes import HashedWords, HashSet, text_hash

TEXTS = ["a b c d a b c", "", "b c", "a 3 b 4,000 c two", "x"]


def hashed(*texts: str) -> HashedWords:
    return HashedWords.of([text.split() for text in texts])


def grams(texts: Sequence[str], size: int) -> list[list[int]]:
    """The n-grams of each text, as hashed together with all others."""
    ((_, found),) = hashed(*texts).ngrams([size])
    return [sorted(found.hashes[found.rows == row].tolist()) for row in range(len(texts))]


def strings(text: str, size: int) -> list[str]:
    words = text.split()
    if len(words) < size:
        return [text] if words else []
    return [" ".join(words[at : at + size]) for at in range(len(words) - size + 1)]


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 8, 1000])
def test_ngrams_are_equal_where_their_words_are(size: int) -> None:
    of_string: dict[str, int] = {}
    for text, found in zip(TEXTS, grams(TEXTS, size), strict=True):
        expected = strings(text, size)
        alone = [grams([gram], len(gram.split()))[0][0] for gram in expected]
        assert found == sorted(alone)
        of_string.update(zip(expected, alone, strict=True))
    assert len(set(of_string.values())) == len(of_string)


def test_several_sizes_in_one_pass_are_those_of_each() -> None:
    for size, found in hashed(*TEXTS).ngrams((5, 2)):
        ((_, alone),) = hashed(*TEXTS).ngrams([size])
        assert found.hashes.tolist() == alone.hashes.tolist()
        assert found.rows.tolist() == alone.rows.tolist()


def test_numbers_are_left_out_or_taken_alone() -> None:
    assert grams(["a b c two"], 3) == [
        sorted(found.hashes.tolist())
        for _, found in hashed("a 3 b 4,000 c two").without_numbers().ngrams([3])
    ]
    numbers = hashed("a 3 b 4,000 c two", "3 4000 two", "4000 3 two", "3").numbers()
    assert numbers.lengths.tolist() == [3, 3, 3, 1]
    first, same, *others = numbers.in_order().tolist()
    assert first == same and len({first, *others}) == 3


def test_no_text_and_no_word_have_no_ngrams() -> None:
    for texts in ([], [""], ["", ""]):
        assert grams(texts, 3) == [[] for _ in texts]
        assert hashed(*texts).in_order().tolist() == [0] * len(texts)


def test_a_set_holds_what_it_was_given_and_nothing_else() -> None:
    inside = np.array([text_hash(f"in {number}") for number in range(5000)], np.uint64)
    outside = np.array([text_hash(f"out {number}") for number in range(5000)], np.uint64)
    found = HashSet(np.concatenate([inside, inside]))
    sent: HashSet = pickle.loads(pickle.dumps(found))
    for each in (found, sent):
        assert len(each) == 5000
        assert each.contains(inside).all() and not each.contains(outside).any()
        both = np.stack([inside, outside])
        assert each.contains(both).tolist() == [[True] * 5000, [False] * 5000]
    assert not HashSet(inside[:0]).contains(outside).any()
