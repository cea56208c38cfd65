from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.data.packing import example, random_dataset, random_examples, write
from training.data.dataset import SequenceDataset
from training.data.loader import Loader
from training.data.micro_batch import collate
from training.data.order import sequence_indices
from training.data.pack import Mode
from training.errors import CheckpointError, ConfigError, DataError


def loader(dataset: SequenceDataset, **changes: Any) -> Loader:
    settings: dict[str, Any] = {
        "seed": 3,
        "global_batch_sequences": 8,
        "micro_batch_sequences": 2,
        "rank": 0,
        "world_size": 1,
        "head": "language_model",
    }
    return Loader(dataset, **{**settings, **changes})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> SequenceDataset:
    return random_dataset(tmp_path_factory.mktemp("sequences"), num_examples=205)


@pytest.mark.parametrize("num_sequences", [1, 2, 3, 10, 99, 1000])
def test_every_epoch_is_a_permutation_of_its_own(num_sequences: int) -> None:
    epochs = sequence_indices(
        np.arange(3 * num_sequences), num_sequences=num_sequences, seed=5
    ).reshape(3, num_sequences)
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(num_sequences))
    if num_sequences >= 10:
        assert (epochs[0] != epochs[1]).any() and (epochs[1] != epochs[2]).any()
        other = sequence_indices(np.arange(num_sequences), num_sequences=num_sequences, seed=6)
        assert (epochs[0] != other).any()


def test_a_position_means_the_same_sequence_however_it_is_asked() -> None:
    together = sequence_indices(np.arange(500, 900), num_sequences=123, seed=1)
    apart = [
        int(sequence_indices(np.array([at]), num_sequences=123, seed=1)[0])
        for at in range(500, 900)
    ]
    assert together.tolist() == apart


def test_the_order_has_no_favourites() -> None:
    # 4,000 seeds, 7 sequences: each sequence is first 571 times on average, standard deviation 22.
    first = Counter(
        int(sequence_indices(np.array([0]), num_sequences=7, seed=seed)[0]) for seed in range(4_000)
    )
    assert all(450 < first[sequence] < 700 for sequence in range(7))
    # Neighbours in the order are not neighbours in the data.
    order = sequence_indices(np.arange(10_000), num_sequences=10_000, seed=1)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.05
    assert (np.abs(np.diff(order)) == 1).mean() < 0.01


def test_a_large_set_needs_no_large_memory() -> None:
    sequences = sequence_indices(np.arange(1000), num_sequences=10**12, seed=1)
    assert (
        len(set(sequences.tolist())) == 1000 and sequences.max() < 10**12 and sequences.min() >= 0
    )


def sequences_of_steps(
    dataset: SequenceDataset, steps: int, world_size: int, micro: int, start: int = 0
):
    ranks = [
        loader(dataset, rank=rank, world_size=world_size, micro_batch_sequences=micro)
        for rank in range(world_size)
    ]
    found: list[list[int]] = []
    for each in ranks:
        each.consumed_sequences = start
    for _ in range(steps):
        found.append(
            sorted(index for each in ranks for batch in each.next_indices() for index in batch)
        )
        for each in ranks:
            each.next_step()
    return found


@pytest.mark.parametrize(("world_size", "micro"), [(1, 8), (2, 1), (2, 4), (4, 2), (8, 1)])
def test_the_sequences_of_a_step_do_not_depend_on_the_layout(
    dataset: SequenceDataset, world_size: int, micro: int
) -> None:
    expected = sequences_of_steps(dataset, 12, 1, 1)
    assert sequences_of_steps(dataset, 12, world_size, micro) == expected


def test_epochs_run_into_each_other_without_dropping_sequences(dataset: SequenceDataset) -> None:
    steps = 3 * len(dataset)  # 8 x 3 epochs exactly
    seen = Counter(
        sequence for sequences in sequences_of_steps(dataset, steps, 1, 8) for sequence in sequences
    )
    assert set(seen.values()) == {24} and len(seen) == len(dataset)
    assert len(dataset) % 8  # else the border between epochs is never inside a step


def test_resumes_twice_at_other_rank_counts(dataset: SequenceDataset) -> None:
    uninterrupted = sequences_of_steps(dataset, 30, 1, 2)
    border = len(dataset) // 8  # the step that the first epoch ends in
    for first, second in ((5, 9), (border, 2 * border), (border + 1, 2 * border + 1)):
        state: dict[str, Any] = {}
        found: list[list[int]] = []
        for begin, end, world_size in ((0, first, 2), (first, second, 4), (second, 30, 1)):
            ranks = [
                loader(dataset, rank=rank, world_size=world_size) for rank in range(world_size)
            ]
            for each in ranks:
                if begin:
                    each.load_state_dict(state)
            for _ in range(begin, end):
                step = [index for each in ranks for batch in each.next_indices() for index in batch]
                found.append(sorted(step))
                for each in ranks:
                    each.next_step()
            states = [each.state_dict() for each in ranks]
            assert all(each == states[0] for each in states)
            state = states[0]
        assert found == uninterrupted


def test_fewer_sequences_than_a_global_batch(tmp_path: Path) -> None:
    small = write(tmp_path, [[example([1], [2])], [example([3], [4])]], sequence_length=8)
    taken = loader(small)
    sequences = [index for batch in taken.next_indices() for index in batch]
    assert Counter(sequences) == {0: 4, 1: 4}
    assert sum(batch.num_examples for batch in taken.next_step()) == 8
    assert taken.order.epochs(taken.consumed_sequences) == [4.0]


def test_a_state_of_other_data_or_another_seed_is_refused(
    dataset: SequenceDataset, tmp_path: Path
) -> None:
    state = loader(dataset).state_dict()
    other = random_dataset(tmp_path, num_examples=50)
    with pytest.raises(CheckpointError, match="trained on other data"):
        loader(other).load_state_dict(state)
    with pytest.raises(CheckpointError, match=r"run\.seed is 4"):
        loader(dataset, seed=4).load_state_dict(state)
    for wrong in (-1, 2.5, "8", True, None):
        with pytest.raises(ValueError, match="consumed_sequences"):
            loader(dataset).load_state_dict({**state, "consumed_sequences": wrong})
    with pytest.raises(ValueError, match="lacks data"):
        loader(dataset).load_state_dict({"consumed_sequences": 8, "seed": 3})


def test_what_is_made_ahead_is_not_consumed(dataset: SequenceDataset) -> None:
    first = loader(dataset)
    for _ in range(3):
        first.next_step()
    state = first.state_dict()
    assert state["consumed_sequences"] == 24 and set(state) == {
        "consumed_sequences",
        "seed",
        "num_sequences",
        "data",
    }
    resumed = loader(dataset)
    resumed.load_state_dict(state)
    for _ in range(2):
        for ours, theirs in zip(first.next_step(), resumed.next_step(), strict=True):
            assert torch.equal(ours.tokens, theirs.tokens)
    first.load_state_dict(state)  # back, with other steps already made
    assert first.next_indices() == loader_at(dataset, 24).next_indices()
    expected = loader_at(dataset, 24).next_step()
    assert torch.equal(first.next_step()[0].tokens, expected[0].tokens)


def loader_at(dataset: SequenceDataset, consumed: int) -> Loader:
    found = loader(dataset)
    found.consumed_sequences = consumed
    return found


def test_a_mix_resumes_on_other_ranks_and_refuses_other_weights(tmp_path: Path) -> None:
    sequences = [[item] for item in random_examples(60)]
    dataset = write(tmp_path, sequences, sequence_length=64, source_sizes=[40, 20])
    mixed = {"source_weights": [0.25, 0.75]}
    expected = take(loader(dataset, **mixed), 6)
    assert sum(index >= 40 for step in expected for index in step) == 36
    first = loader(dataset, **mixed)
    found = take(first, 2)
    state = first.state_dict()
    second = [loader(dataset, rank=rank, world_size=2, **mixed) for rank in range(2)]
    for each in second:
        each.load_state_dict(state)
    halves = [take(each, 4) for each in second]
    found += [left + right for left, right in zip(*halves, strict=True)]
    assert found == expected
    for other in ({"source_weights": [0.5, 0.5]}, {}):
        with pytest.raises(CheckpointError, match=r"proportion 1 : 3, data\.sources has the wei"):
            loader(dataset, **other).load_state_dict(state)


def take(taken: Loader, steps: int) -> list[list[int]]:
    """The sequences of the next steps on this rank."""
    found: list[list[int]] = []
    for _ in range(steps):
        found.append([index for batch in taken.next_indices() for index in batch])
        taken.next_step()
    return found


def test_weights_need_sources_that_were_packed_apart(tmp_path: Path) -> None:
    sequences = [[item] for item in random_examples(6)]
    for number, sizes in enumerate(([6], [6, 0])):
        dataset = write(tmp_path / str(number), sequences, sequence_length=64, source_sizes=sizes)
        if number == 0:
            del dataset.facts["sources"][0]["sequences"]
        with pytest.raises(DataError, match="prepare it again with these sources"):
            loader(dataset, source_weights=[0.5, 0.5])


def test_a_state_of_an_older_version_is_refused(dataset: SequenceDataset) -> None:
    state = loader(dataset).state_dict()
    del state["consumed_sequences"]
    for old in ({**state, "consumed_rows": 8}, {"consumed_rows": 8, "consumed_sequences": 8}):
        with pytest.raises(CheckpointError, match=r"consumed_rows.*older version.*run\.folder"):
            loader(dataset).load_state_dict(old)


def test_sequences_that_do_not_divide_are_refused_with_the_numbers(
    dataset: SequenceDataset,
) -> None:
    with pytest.raises(
        ConfigError, match=r"global_batch_sequences = 8 .*micro_batch_sequences .*= 2 x 3 = 6"
    ):
        loader(dataset, world_size=3)


def test_data_for_the_other_head_is_refused(dataset: SequenceDataset) -> None:
    with pytest.raises(ConfigError, match="prepared for a language_model"):
        loader(dataset, head="verifier")


def test_the_program_is_supervised_one_position_ahead(tmp_path: Path) -> None:
    sequences = [[example([11, 12, 13], [21, 22]), example([14], [23, 24, 25])]]
    dataset = write(tmp_path, sequences, sequence_length=12)
    batch = collate([dataset.sequence(0)], sequence_length=12, head="language_model")
    assert batch.tokens.tolist() == [[11, 12, 13, 21, 22, 14, 23, 24, 25, 0, 0, 0]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 0, 0]]
    assert batch.document_ids.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1, 1, -1, -1, -1]]
    assert batch.supervised.tolist() == [2, 3, 5, 6, 7]
    assert batch.labels.tolist() == [21, 22, 23, 24, 25]
    assert (batch.num_examples, batch.num_tokens, batch.num_supervised) == (2, 9, 5)
    assert batch.num_attended == 15 + 10


def test_without_padding_the_sequences_follow_each_other(tmp_path: Path) -> None:
    sequences = [
        [example([11, 12, 13], [21, 22]), example([14], [23, 24, 25])],
        [example([15], [26])],
        [example([16, 17], [27])],
    ]
    dataset = write(tmp_path, sequences, sequence_length=12)
    stored = [dataset.sequence(number) for number in range(3)]
    options: dict[str, Any] = {"sequence_length": 12, "head": "language_model", "most_examples": 2}
    padded = collate(stored, **options)
    batch = collate(stored, **options, padded=False)
    assert batch.tokens.tolist() == [[11, 12, 13, 21, 22, 14, 23, 24, 25, 15, 26, 16, 17, 27]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 1, 0, 1, 2]]
    assert batch.document_ids.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 3]]
    assert batch.borders.tolist() == [0, 5, 9, 11, 14, 14, 14, 14, 14, 14]
    assert batch.supervised.tolist() == [2, 3, 5, 6, 7, 9, 12]
    # All else is as with padding.
    assert torch.equal(batch.tokens, padded.tokens[padded.document_ids >= 0][None])
    assert torch.equal(batch.document_ids, padded.document_ids[padded.document_ids >= 0][None])
    assert torch.equal(batch.labels, padded.labels) and torch.equal(batch.weights, padded.weights)
    for count in ("num_examples", "num_tokens", "num_supervised", "weight", "num_attended"):
        assert getattr(batch, count) == getattr(padded, count)


def test_the_whole_text_is_supervised_but_for_first_tokens(tmp_path: Path) -> None:
    sequences = [[example([11, 12], [21], Mode.SUPERVISED), example([13], [22], Mode.SUPERVISED)]]
    dataset = write(tmp_path, sequences, sequence_length=6)
    batch = collate([dataset.sequence(0)], sequence_length=6, head="language_model")
    # The first token of the second example is not to be guessed from the first example.
    assert batch.supervised.tolist() == [0, 1, 3]
    assert batch.labels.tolist() == [12, 21, 22]


def test_questions_may_weigh_less_than_programs(tmp_path: Path) -> None:
    sequences = [[example([11, 12], [21], Mode.SUPERVISED), example([13], [22], Mode.SUPERVISED)]]
    dataset = write(tmp_path, sequences, sequence_length=6)
    batch = collate(
        [dataset.sequence(0)], sequence_length=6, head="language_model", question_weight=0.25
    )
    assert batch.supervised.tolist() == [0, 1, 3]
    assert batch.labels.tolist() == [12, 21, 22]
    assert batch.weights.tolist() == [0.25, 1, 1]
    assert batch.weight == 2.25


def test_a_verifier_is_supervised_on_every_program_token(tmp_path: Path) -> None:
    sequences = [
        [
            example([11, 12], [21, 22], program_mode=Mode.RIGHT),
            example([13], [23, 24], program_mode=Mode.WRONG),
        ]
    ]
    dataset = write(tmp_path, sequences, sequence_length=8, head="verifier")
    batch = loader(
        dataset, head="verifier", global_batch_sequences=1, micro_batch_sequences=1
    ).next_step()[0]
    assert batch.labels.dtype == torch.float32
    assert batch.supervised.tolist() == [2, 3, 5, 6]
    assert batch.labels.tolist() == [1, 1, 0, 0]
    assert batch.num_supervised == 4
