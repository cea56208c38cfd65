from pathlib import Path

import pytest

from tests.training.data.packing import random_dataset
from training.data.integrity import Integrity


def test_sound_shards_have_no_problem(tmp_path: Path) -> None:
    random_dataset(tmp_path)
    integrity = Integrity(tmp_path)
    integrity.wait()
    assert not integrity.problem


@pytest.mark.parametrize("name", ["rows_00000.bin", "rows_00000.idx"])
def test_zeroed_bytes_are_found_and_the_file_is_named(tmp_path: Path, name: str) -> None:
    random_dataset(tmp_path)
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    content[1000:1400] = bytes(400)
    path.write_bytes(content)
    integrity = Integrity(tmp_path)
    integrity.wait()
    assert f"data.folder = {tmp_path} is damaged: {name} has changed" in integrity.problem
