import hashlib
import json
import random

import numpy as np
import pytest

from tests.training.data.real import real_data
from training.data import signatures as module
from training.data.signatures import BANDS, Questions, program_keys, signatures
from training.records import Example

STORY = (
    "On Monday Ann picks {a} red apples in her garden, and on Tuesday she picks {b} more with her "
    "brother Bob. They sell half of all the apples at the market for 2 dollars each and bake a "
    "cake with the others. {end}"
)
FIRST = STORY.format(a=12, b=30, end="How many dollars do they earn?")


def keys(*texts: str, similarity: float = 0.9) -> list[list[int]]:
    return signatures(Questions(texts), similarity=similarity).tolist()


def are_near(one: str, other: str) -> bool:
    first, second = keys(one, other)
    return any(a == b for a, b in zip(first[1:], second[1:], strict=True))


def test_the_first_column_ignores_case_space_and_punctuation() -> None:
    shouted = FIRST.upper().replace(",", " ;").replace(".", "!\n")
    first, second, third = keys(FIRST, shouted, FIRST.replace("12", "13"), similarity=0)
    assert first == second != third and len(first) == 1


def test_near_duplicates_have_a_band_in_common() -> None:
    assert are_near(FIRST, STORY.format(a=12, b=30, end="How many dollars do they earn together?"))
    assert not are_near(FIRST, "Tom has 12 pears and 30 plums. Half are ripe. What do 2 cost?")


@pytest.mark.parametrize(("a", "b"), [(12, 31), (30, 12)])
def test_other_numbers_or_another_order_make_another_question(a: int, b: int) -> None:
    assert not are_near(FIRST, STORY.format(a=a, b=b, end="How many dollars do they earn?"))


def test_a_ratio_in_words_is_a_number() -> None:
    assert not are_near(FIRST, FIRST.replace("half", "third"))


def test_the_keys_of_a_question_do_not_depend_on_those_beside_it() -> None:
    texts = [FIRST, "", "7?", "How many are 3 + 4?", FIRST.replace("Ann", "Eve")]
    alone = [keys(text)[0] for text in texts]
    assert keys(*texts) == alone == keys(*texts[::-1])[::-1]
    assert all(len(row) == 1 + BANDS for row in alone)
    assert signatures(Questions([]), similarity=0.9).shape == (0, 1 + BANDS)


@pytest.mark.parametrize("similarity", [0.6, 0.8, 0.9])
def test_the_fraction_found_follows_the_stated_curve(similarity: float) -> None:
    draw = random.Random(1)
    texts: list[str] = []
    for _ in range(2000):
        words = ["".join(draw.choices("abcdefgh", k=12)) for _ in range(97)]
        # 5 of 95 3-grams differ: of the 100 that one of the two has, both have 90.
        texts += [" ".join(words), " ".join([*words[:-5], *(f"{word}z" for word in words[-5:])])]
    found = signatures(Questions(texts), similarity=similarity)[:, 1:]
    fraction = float((found[::2] == found[1::2]).any(axis=1).mean())
    values = module.values_of_band(similarity)
    expected = 1 - (1 - 0.9**values) ** BANDS
    # Three standard deviations of a fraction of 2,000 pairs are at most 0.034.
    assert abs(fraction - expected) < 0.04


def test_keys_are_the_same_in_every_process_and_version() -> None:
    """Prepared data depends on them."""
    found = signatures(Questions([FIRST, "What is 1,250 / 5?"]), similarity=0.9)
    digest = hashlib.sha256(np.ascontiguousarray(found).astype("<u8").tobytes()).hexdigest()
    assert digest[:16] == "4c7a6de062db0e53"


def test_programs_of_a_question_have_keys_of_their_own() -> None:
    pairs = [("q", "p"), ("q", "r"), ("r", "p"), ("q", "p")]
    found = program_keys([Example(question=q, program=p) for q, p in pairs])
    assert found.shape == (4, 1) and found.dtype == np.uint64
    assert found[0] == found[3] and len(set(found[:3, 0].tolist())) == 3
    assert program_keys([]).shape == (0, 1)


def test_of_real_questions_only_one_pair_is_near() -> None:
    """Amanda and Josie buy the same cassettes for the same money."""
    lines = real_data("gsm8k/train.jsonl").read_text().splitlines()
    texts = [json.loads(line)["question"] for line in lines]
    found = signatures(Questions(texts), similarity=0.9)
    assert len(np.unique(found[:, 0])) == len(texts)
    repeated = {number for column in found.T[1:] for number in _later(column)}
    assert [texts[number].split()[0] for number in repeated] == ["Amanda"]


def _later(column: np.ndarray) -> list[int]:
    _, first = np.unique(column, return_index=True)
    return sorted(set(range(len(column))) - set(first.tolist()))
