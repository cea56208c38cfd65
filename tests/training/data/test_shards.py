import json
from pathlib import Path

import pytest

from tests.training.data.packing import example, random_dataset, random_examples, write
from training import manifest
from training.data.dataset import SequenceDataset
from training.data.pack import Mode
from training.errors import DataError


def test_sequences_come_back_as_written(tmp_path: Path) -> None:
    sequences = [
        [example([1, 2, 3], [4, 65535]), example([7], [8, 9], Mode.CONTEXT, Mode.RIGHT)],
        [example([5], [6], Mode.SUPERVISED, Mode.WRONG)],
    ]
    dataset = write(tmp_path, sequences, sequence_length=16)
    assert len(dataset) == 2
    first, second = dataset.sequence(0), dataset.sequence(1)
    assert first.tokens.tolist() == [1, 2, 3, 4, 65535, 7, 8, 9]
    assert first.lengths.tolist() == [3, 2, 1, 2]
    assert first.modes.tolist() == [Mode.CONTEXT, Mode.SUPERVISED, Mode.CONTEXT, Mode.RIGHT]
    assert second.modes.tolist() == [Mode.SUPERVISED, Mode.WRONG]


def test_ids_above_16_bits_are_written_with_32(tmp_path: Path) -> None:
    narrow = write(tmp_path / "narrow", [[example([1], [65_535])]], sequence_length=16)
    wide = write(tmp_path / "wide", [[example([1], [65_536, 151_935])]], sequence_length=16)
    assert narrow.sequence(0).tokens.tolist() == [1, 65_535]
    assert wide.sequence(0).tokens.tolist() == [1, 65_536, 151_935]
    assert (tmp_path / "narrow" / "rows_00000.bin").stat().st_size == 2 * 2
    assert (tmp_path / "wide" / "rows_00000.bin").stat().st_size == 3 * 4


def test_several_shards_read_as_one(tmp_path: Path) -> None:
    sequences = [[item] for item in random_examples(23)]
    dataset = write(tmp_path, sequences, sequence_length=64, sequences_per_shard=5)
    assert len(list(tmp_path.glob("*.bin"))) == 5
    assert len(dataset) == 23
    for number, sequence in enumerate(sequences):
        assert dataset.sequence(number).tokens.tolist() == sequence[0].tokens.tolist()
    for outside in (-1, 23):
        with pytest.raises(IndexError):
            dataset.sequence(outside)


def test_the_fingerprint_is_of_the_content_alone(tmp_path: Path) -> None:
    first = random_dataset(tmp_path / "a")
    assert random_dataset(tmp_path / "b").fingerprint == first.fingerprint
    assert random_dataset(tmp_path / "c", num_examples=201).fingerprint != first.fingerprint


def test_an_unfinished_folder_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"launch/prepare\.py"):
        SequenceDataset(tmp_path, sequence_length=64)


def test_sequences_of_another_length_are_refused(tmp_path: Path) -> None:
    random_dataset(tmp_path, sequence_length=64)
    with pytest.raises(DataError, match=r"data\.sequence_length = 128.*sequences of 64"):
        SequenceDataset(tmp_path, sequence_length=128)


def test_data_of_an_older_version_is_refused(tmp_path: Path) -> None:
    random_dataset(tmp_path)
    path = tmp_path / manifest.MANIFEST
    content = json.loads(path.read_text())
    content["facts"]["rows"] = content["facts"].pop("sequences")
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"older version.*prepare it again"):
        SequenceDataset(tmp_path, sequence_length=64)


def test_a_cut_or_missing_shard_is_named(tmp_path: Path) -> None:
    random_dataset(tmp_path)
    shard = tmp_path / "rows_00000.bin"
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(ValueError, match=r"rows_00000\.bin has .* its manifest lists"):
        SequenceDataset(tmp_path, sequence_length=64)
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=r"rows_00000\.bin is missing"):
        SequenceDataset(tmp_path, sequence_length=64)
