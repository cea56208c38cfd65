from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training.data.packing import example, random_examples, split
from training.data.pack import Examples, Mode, best_fit, exact_fit, packed, unit_starts

Fit = Callable[[list[int], int], list[list[int]]]
BOTH = pytest.mark.parametrize("fit", [best_fit, exact_fit])


def made(lengths: NDArray[np.int64]) -> Examples:
    """Examples of these lengths, each of them of one token id, its number."""
    return Examples(
        tokens=np.repeat(np.arange(len(lengths)), lengths).astype(np.uint16),
        lengths=np.stack([lengths // 2, lengths - lengths // 2], axis=1),
        modes=np.tile(np.array([Mode.CONTEXT, Mode.SUPERVISED], np.uint8), (len(lengths), 1)),
    )


def lengths_of_real_data(number: int) -> NDArray[np.int64]:
    generator = np.random.default_rng(0)
    return generator.gamma(6, (12, 16), size=(number, 2)).clip(8, 400).astype(np.int64).sum(axis=1)


def test_each_example_goes_into_the_fullest_sequence_it_fits() -> None:
    # 6 leaves 4 free, 5 leaves 5 free: the 4 belongs beside the 6, the 5 beside the 5.
    assert best_fit([5, 4, 6, 5], 10) == [[2, 1], [0, 3]]


def test_two_examples_complete_a_sequence_to_the_last_token() -> None:
    # Best fit opens a third sequence: beside both 7s it leaves a gap.
    assert exact_fit([7, 7, 5, 4, 4, 3], 15) == [[0, 3, 4], [1, 5, 2]]
    assert best_fit([7, 7, 5, 4, 4, 3], 15) == [[0, 1], [2, 3, 4], [5]]


def test_of_pairs_that_complete_a_sequence_the_most_equal_is_taken() -> None:
    assert exact_fit([8, 5, 4, 4, 3], 16) == [[0, 2, 3], [1, 4]]
    # There is one 4 only, which is no pair.
    assert exact_fit([8, 5, 4, 3], 16) == [[0, 3, 1], [2]]


@BOTH
def test_no_sequences_from_no_examples(fit: Fit) -> None:
    assert fit([], 10) == []
    assert list(packed([], sequence_length=10)) == []


@BOTH
def test_a_sequence_can_be_filled_to_the_last_token(fit: Fit) -> None:
    assert fit([10, 10], 10) == [[0], [1]]


@BOTH
def test_an_example_longer_than_a_sequence_is_refused(fit: Fit) -> None:
    with pytest.raises(ValueError, match="11 tokens is longer than a sequence of 10"):
        fit([3, 11], 10)


@BOTH
@pytest.mark.parametrize("longest", [3, 20, 50])
def test_every_index_is_in_exactly_one_sequence(fit: Fit, longest: int) -> None:
    lengths = np.random.default_rng(longest).integers(1, longest + 1, size=400).tolist()
    sequences = fit(lengths, 50)
    assert sorted(index for sequence in sequences for index in sequence) == [*range(400)]
    assert max(sum(lengths[index] for index in sequence) for sequence in sequences) <= 50


@pytest.mark.parametrize("sequence_length", [50, 400])
@pytest.mark.parametrize("window", [1, 7, 100, 16_384])
def test_every_example_is_in_exactly_one_sequence(window: int, sequence_length: int) -> None:
    examples = random_examples(500)
    found = split(packed(examples, sequence_length=sequence_length, window_examples=window))
    assert all(sum(len(one.tokens) for one in sequence) <= sequence_length for sequence in found)
    contents = sorted(one.tokens.tobytes() for sequence in found for one in sequence)
    assert contents == sorted(one.tokens.tobytes() for one in examples)


def test_where_a_stream_is_cut_makes_no_difference() -> None:
    examples = made(np.random.default_rng(3).integers(2, 40, size=300))
    ends = [0, 1, 2, 90, 90, 130, 300]
    pieces = [examples.between(start, stop) for start, stop in pairwise(ends)]
    whole = [*packed([examples], sequence_length=256, window_examples=64)]
    in_pieces = [*packed(pieces, sequence_length=256, window_examples=64)]
    assert len(whole) == len(in_pieces) == 5
    for one, other in zip(whole, in_pieces, strict=True):
        assert one.num_examples.tolist() == other.num_examples.tolist()
        assert one.examples.tokens.tolist() == other.examples.tokens.tolist()


@pytest.mark.parametrize("sequence_length", [1024, 1280])
def test_little_padding_at_the_lengths_of_the_real_data(sequence_length: int) -> None:
    lengths = lengths_of_real_data(20_000)
    sequences = [*packed([made(lengths)], sequence_length=sequence_length)]
    capacity = sequence_length * sum(map(len, sequences))
    assert sum(len(window.examples.tokens) for window in sequences) == lengths.sum()
    assert 1 - lengths.sum() / capacity < 0.005


def test_few_examples_per_sequence_are_packed_by_best_fit() -> None:
    lengths = lengths_of_real_data(1000)
    (sequences,) = packed([made(lengths)], sequence_length=512)
    wanted = [len(sequence) for sequence in best_fit(lengths.tolist(), 512)]
    assert sequences.num_examples.tolist() == wanted


def test_examples_are_selected_by_mask_and_by_index() -> None:
    examples = made(np.array([3, 1, 2]))
    assert examples.where(np.array([True, False, True])).tokens.tolist() == [0, 0, 0, 2, 2]
    assert examples.where(np.array([True, True, True])) is examples
    chosen = examples.select(np.array([2, 0]))
    assert chosen.tokens.tolist() == [2, 2, 0, 0, 0]
    assert chosen.lengths.tolist() == [[1, 1], [1, 2]]
    assert examples.between(1, 3).tokens.tolist() == [1, 2, 2]


def labelled(prompt: int, length: int, right: bool) -> Examples:
    mode = Mode.RIGHT if right else Mode.WRONG
    return example([prompt] * 3, [9] * length, program_mode=mode)


def starts(examples: list[Examples], sequence_length: int) -> list[int]:
    return unit_starts(Examples.concatenate(examples), sequence_length).tolist()


def test_a_right_and_a_wrong_program_of_one_question_make_a_pair() -> None:
    right, wrong, other, long = (
        labelled(1, 5, True),
        labelled(1, 6, False),
        labelled(2, 4, False),
        labelled(2, 30, True),
    )
    assert starts([right, wrong, other, long], 40) == [0, 2]
    assert starts([right, wrong, other, long], 39) == [0, 2, 3]
    assert starts([right, right, other, wrong], 40) == [0, 1, 2, 3]
    assert starts([right, wrong, right, wrong, right], 40) == [0, 2, 4]
    assert starts(random_examples(4), 40) == [0, 1, 2, 3]


@pytest.mark.parametrize("sequence_length", [100, 400])
@pytest.mark.parametrize("window", [1, 16, 16_384])
def test_pairs_share_a_sequence(sequence_length: int, window: int) -> None:
    lengths = np.random.default_rng(1).integers(5, 40, size=200).tolist()
    stream = [labelled(i // 2, length, i % 2 == 0) for i, length in enumerate(lengths)]
    sequences = split(packed(stream, sequence_length=sequence_length, window_examples=window))
    prompts = [[int(example.tokens[0]) for example in sequence] for sequence in sequences]
    assert sorted(p for sequence in prompts for p in sequence) == sorted(i // 2 for i in range(200))
    assert all(sequence.count(prompt) == 2 for sequence in prompts for prompt in sequence)
