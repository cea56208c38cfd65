import pytest

from training.data.question_texts import normalised, words


def test_case_spaces_and_punctuation_make_no_other_question() -> None:
    assert normalised("Ann's  2 apples:\nHow many?") == normalised("ann s 2 APPLES, how_many")
    assert normalised("half-time: 1,250 fans") == normalised("half time 1250 fans!")
    assert normalised("Ann has 2 apples") != normalised("Ann has 3 apples")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1 2", "12"),
        ("1.5", "15"),
        ("1, 250", "1,250"),
        ("3 + 4", "3 * 4"),
        ("20% of 5", "20 of 5"),
        ("It is -5 degrees", "It is 5 degrees"),
        ("3/4", "34"),
    ],
)
def test_another_number_or_sign_is_another_question(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


def test_words_are_lower_case_with_whole_numbers() -> None:
    assert words("Tom's $1,250.50, 2nd_bird: 3+4?") == "toms 1,250.50 2nd bird 3 + 4".split()
    assert words("20-30 of 15-year-olds; -.5") == "20 30 of 15 year olds - 5".split()
    assert words("Lists 1,2,3 end.4 Élan") == "lists 1 2 3 end 4 élan".split()
