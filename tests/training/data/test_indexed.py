import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from megatron.core.datasets.indexed_dataset import IndexedDataset, IndexedDatasetBuilder

from training.data.indexed import IndexedShard, StoredFile
from training.errors import DamagedFileError


def written(folder: Path, *, num_documents: int = 300, dtype: Any = np.uint16) -> tuple[Path, Path]:
    """A shard from megatron-core's own writer, with 1 to 6 segments in each document."""
    generator = np.random.default_rng(4)
    index, tokens = folder / "shard.idx", folder / "shard.bin"
    builder = IndexedDatasetBuilder(str(tokens), dtype=dtype, multimodal=True)
    for _ in range(num_documents):
        lengths = generator.integers(1, 50, size=generator.integers(1, 7)).tolist()
        largest = np.iinfo(dtype).max
        content: Any = generator.integers(0, largest, size=sum(lengths), endpoint=True, dtype=dtype)
        builder.add_document(content, lengths, generator.integers(0, 4, size=len(lengths)).tolist())
    builder.finalize(str(index))
    return index, tokens


def opened(index: Path, tokens: Path) -> IndexedShard:
    return IndexedShard(StoredFile(index), StoredFile(tokens))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_reads_what_megatron_core_reads(tmp_path: Path, dtype: Any) -> None:
    index, tokens = written(tmp_path, dtype=dtype)
    ours, theirs = opened(index, tokens), IndexedDataset(str(tmp_path / "shard"), multimodal=True)
    borders = theirs.document_indices
    assert len(ours) == len(borders) - 1 == 300
    for number in range(len(ours)):
        segments = range(borders[number], borders[number + 1])
        found, lengths, modes = ours.document(number)
        assert found.dtype == dtype
        expected: list[Any] = [theirs[segment] for segment in segments]
        assert found.tolist() == [token for each, _ in expected for token in each.tolist()]
        assert lengths.tolist() == [len(each) for each, _ in expected]
        assert modes.tolist() == [int(mode) for _, mode in expected]


def test_the_loader_does_not_import_megatron_core() -> None:
    code = "import sys, training.data.loader; print('megatron' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_another_file_is_no_index(tmp_path: Path) -> None:
    index, tokens = written(tmp_path)
    with pytest.raises(DamagedFileError, match=r"shard\.bin is damaged: it does not begin"):
        opened(tokens, index)
    index.write_bytes(index.read_bytes()[:20])
    with pytest.raises(DamagedFileError, match=r"shard\.idx is damaged: it ends before byte 34"):
        opened(index, tokens)


def test_other_types_of_tokens_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="index of uint16 or int32 tokens"):
        opened(*written(tmp_path, dtype=np.int64))


def test_damage_after_opening_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    index, tokens = written(tmp_path)
    shard = opened(index, tokens)
    with tokens.open("r+b") as stream:
        stream.truncate(10)
    with pytest.raises(DamagedFileError, match=r"shard\.bin is damaged: it ends before"):
        shard.document(299)
    content = bytearray(index.read_bytes())
    borders_at = 34 + 12 * int.from_bytes(content[18:26], "little")
    content[borders_at : borders_at + 16] = b"\xff" * 16
    index.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"shard\.idx .* packed sequence 0 is not possible"):
        shard.document(0)
