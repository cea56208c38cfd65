import numpy as np
import pytest

from tests.training.data.packing import example, random_examples
from training.data.pack import Mode, TokenizedExample, best_fit, packed, pairs


def test_each_example_goes_into_the_fullest_sequence_it_fits() -> None:
    # 6 leaves 4 free, 5 leaves 5 free: the 4 belongs beside the 6, the 5 beside the 5.
    assert best_fit([5, 4, 6, 5], 10) == [[2, 1], [0, 3]]


def test_no_sequences_from_no_examples() -> None:
    assert best_fit([], 10) == []
    assert list(packed([], sequence_length=10)) == []


def test_a_sequence_can_be_filled_to_the_last_token() -> None:
    assert best_fit([10, 10], 10) == [[0], [1]]


def test_an_example_longer_than_a_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="11 tokens is longer than a sequence of 10"):
        best_fit([3, 11], 10)


@pytest.mark.parametrize("window", [1, 7, 100, 16_384])
def test_every_example_is_in_exactly_one_sequence(window: int) -> None:
    examples = random_examples(500)
    sequences = list(packed(examples, sequence_length=50, window_examples=window))
    assert all(sum(len(example) for example in sequence) <= 50 for sequence in sequences)
    assert sorted(id(example) for sequence in sequences for example in sequence) == sorted(
        map(id, examples)
    )


def test_little_padding_at_the_lengths_of_the_real_data() -> None:
    generator = np.random.default_rng(0)
    examples = [
        example([1] * int(prompt), [2] * int(program))
        for prompt, program in generator.gamma(6, (12, 16), size=(20_000, 2)).clip(8, 400)
    ]
    sequences = list(packed(examples, sequence_length=1024))
    tokens = sum(len(example) for example in examples)
    assert 1 - tokens / (1024 * len(sequences)) < 0.015


def labelled(prompt: int, length: int, right: bool) -> TokenizedExample:
    mode = Mode.RIGHT if right else Mode.WRONG
    return example([prompt] * 3, [9] * length, program_mode=mode)


def test_a_right_and_a_wrong_program_of_one_question_make_a_pair() -> None:
    right, wrong, other, long = (
        labelled(1, 5, True),
        labelled(1, 6, False),
        labelled(2, 4, False),
        labelled(2, 30, True),
    )
    assert list(pairs([right, wrong, other, long], 40)) == [(right, wrong), (other, long)]
    assert list(pairs([right, wrong, other, long], 39)) == [(right, wrong), (other,), (long,)]
    assert list(pairs([right, right, other, wrong], 40)) == [(right,), (right,), (other,), (wrong,)]
    generator = random_examples(4)
    assert list(pairs(generator, 40)) == [(one,) for one in generator]


def test_pairs_share_a_sequence() -> None:
    lengths = np.random.default_rng(1).integers(5, 40, size=200).tolist()
    stream = [labelled(i // 2, length, i % 2 == 0) for i, length in enumerate(lengths)]
    sequences = list(packed(stream, sequence_length=100))
    prompts = [[int(example.tokens[0]) for example in sequence] for sequence in sequences]
    assert sorted(p for sequence in prompts for p in sequence) == sorted(i // 2 for i in range(200))
    assert all(sequence.count(prompt) == 2 for sequence in prompts for prompt in sequence)
