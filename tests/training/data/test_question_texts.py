from training.data.question_texts import normalised


def test_case_spaces_and_punctuation_make_no_other_question() -> None:
    assert normalised("Ann's  2 apples:\nHow many?") == normalised("ann s 2 APPLES, how_many")
    assert normalised("Ann has 2 apples") != normalised("Ann has 3 apples")
