import pytest

from training.data.decontaminate import Overlap, words

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


@pytest.mark.parametrize("ngram", [8, 10, 13])
def test_short_questions_compare_whole(ngram: int) -> None:
    overlap = Overlap(["What is 3 plus 4?"], ngram=ngram)
    assert overlap.hits("what is 30 plus 40")
    assert not overlap.hits("What is 3 plus 4 times 5?")
    assert not overlap.hits("What is " + LONG)


def test_a_question_of_numbers_alone_overlaps_nothing() -> None:
    overlap = Overlap(["3 + 4 = ?"], ngram=8)
    assert len(overlap) == 0 and not overlap.hits("5 + 6 = ?")
