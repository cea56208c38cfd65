import json
import re
from collections.abc import Sequence

import pytest

from tests.training.data.real import real_data
from training.data import reasons
from training.data.decontaminate import COUNTED_NGRAMS, Overlap, words
from training.data.signatures import Questions

TEN_WORDS = "Ann picks red apples in her garden every single morning"
LONG = f"{TEN_WORDS} and sells all of them"


def test_punctuation_and_numbers_are_stripped() -> None:
    assert words("Tom's 3 dogs, 1,234 cats & the 2nd_bird!") == "toms dogs cats the bird".split()


@pytest.mark.parametrize(("ngram", "hit"), [(8, True), (10, True), (13, False)])
def test_ten_shared_words_are_an_overlap_up_to_10_grams(ngram: int, hit: bool) -> None:
    overlap = Overlap([f"{LONG} for 3 dollars."], ngram=ngram)
    assert overlap.hits(f"On 14 May {TEN_WORDS.upper()}, 17 of which she gives to Bob.") == hit


@pytest.mark.parametrize(("ngram", "hit"), [(8, True), (10, False), (13, False)])
def test_nine_shared_words_are_none_for_10_grams(ngram: int, hit: bool) -> None:
    overlap = Overlap([f"{LONG} for 3 dollars."], ngram=ngram)
    nine = " ".join(TEN_WORDS.split()[:9])
    assert overlap.hits(f"Today {nine} evening and gives them to her brother Bob.") == hit


def test_thirteen_shared_words_with_other_numbers_and_punctuation() -> None:
    question = "Ann picks 12 red apples in her garden every single morning and sells 3 of them."
    overlap = Overlap([question], ngram=13)
    assert overlap.hits(
        "Yesterday Ann picks 7 red apples, in her garden; every single morning (and sells 5 of!)"
    )


@pytest.mark.parametrize("ngram", [8, 10, 13, 1000])
def test_short_questions_compare_whole(ngram: int) -> None:
    overlap = Overlap(["What is 3 plus 4?"], ngram=ngram)
    assert overlap.hits("what is 30 plus 40")
    assert not overlap.hits("What is 3 plus 4 times 5?")
    assert not overlap.hits("What is " + LONG)


def test_a_question_of_numbers_alone_overlaps_nothing() -> None:
    overlap = Overlap(["3 + 4 = ?"], ngram=8, similarity=0.5)
    assert len(overlap) == 0 and not overlap.hits("5 + 6 = ?")


def test_each_size_is_counted_with_and_without_numbers() -> None:
    overlap = Overlap([f"{LONG} for 3 dollars."], ngram=9)
    found = overlap.compare(
        Questions(
            [
                f"{TEN_WORDS} 7 times",
                f"{LONG} 7 times",
                TEN_WORDS.replace("red", "5"),
                f"{LONG} for 7 dollars",
                "Bob eats 3 plums.",
            ]
        )
    )
    assert found.faults == [reasons.OVERLAP] * 2 + [None] + [reasons.OVERLAP, None]
    assert found.counts == {
        "8 words": 3,
        "10 words": 3,
        "13 words": 2,
        "8 words with numbers": 3,
        "10 words with numbers": 3,
        "13 words with numbers": 2,
    }


def test_near_duplicates_are_found_with_other_numbers_and_names() -> None:
    """Two questions of GSM8K's train split, and one with a few words in common with them."""
    known = (
        "Kate bought 7 packs of red bouncy balls and 6 packs of yellow bouncy balls. Each pack "
        "contained 18 bouncy balls. How many more red bouncy balls than yellow bouncy balls did "
        "Kate buy?"
    )
    near = known.replace("7", "5").replace("Kate", "Jill").replace("Each pack", "Each package")
    far = "Kate bought 7 packs of stickers. Each pack contained 18. How many did Kate buy?"
    overlap = Overlap(["Who has 1 plum?", known], ngram=20, similarity=0.5)
    found = overlap.compare(Questions([far, near, known]))
    assert found.faults == [None, reasons.NEAR_BENCHMARK, reasons.OVERLAP]
    assert found.counts["near duplicates"] == 2
    assert overlap.explained(near) == f"{near}\n~ {known}"
    assert not Overlap([known], ngram=20).hits(near)


def test_what_is_in_common_is_shown() -> None:
    question = f"On 14 May {TEN_WORDS}, 17 of which she gives to Bob."
    shown = Overlap([LONG], ngram=8).explained(question)
    assert shown == f"{question}\n= ann picks red apples in her garden every"


def test_without_benchmarks_nothing_is_compared() -> None:
    found = Overlap([], ngram=8, similarity=0.5).compare(Questions([LONG, ""]))
    assert found.faults == [None, None] and found.counts == {}


def _reference(questions: Sequence[str], texts: Sequence[str], ngram: int) -> list[bool]:
    """The definition, with the texts themselves: n-grams of words without digits."""

    def grams(text: str) -> set[str]:
        plain = re.sub("['\u2019`]", "", text.lower()).replace("_", " ")
        found = [word for word in re.findall(r"\w+", plain) if not re.search(r"\d", word)]
        if len(found) < ngram:
            return {" ".join(found)} - {""}
        return {" ".join(found[at : at + ngram]) for at in range(len(found) - ngram + 1)}

    known = set[str]().union(*map(grams, questions))
    return [bool(grams(text) & known) for text in texts]


@pytest.mark.parametrize("ngram", [4, *COUNTED_NGRAMS, 40])
def test_real_questions_overlap_as_their_texts_do(ngram: int) -> None:
    lines = real_data("gsm8k/train.jsonl").read_text().splitlines()
    gsm8k = [json.loads(line)["question"] for line in lines]
    svamp = json.loads(real_data("svamp/SVAMP.json").read_text())
    both = [*gsm8k, *(f"{row['Body']} {row['Question']}" for row in svamp)]
    known, texts = both[::2], both[1::2]
    expected = _reference(known, texts, ngram)
    found = Overlap(known, ngram=ngram).compare(Questions(texts))
    assert 0 < sum(expected) < len(texts)
    assert [fault is not None for fault in found.faults] == expected
