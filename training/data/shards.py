"""Packed rows on disk, in megatron-core's indexed format, and back.

A data folder holds `rows_00000.bin` (token ids, uint16) and `rows_00000.idx`, more such
pairs, `tokenizer/` and `manifest.json`. One document is one row. Its sequences come in
pairs, an example's prompt and its program with the end token, and the mode byte of each
says what it is for (`pack.Mode`). Reading maps the files into memory: neither start-up
nor memory grows with the data.

Only this module of `training/data` knows megatron-core.
"""

import bisect
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training import files, manifest
from training.data.pack import TokenizedExample
from training.errors import DataError

with warnings.catch_warnings():
    # It says that Transformer Engine and Apex are absent; we use neither.
    warnings.simplefilter("ignore")
    from megatron.core.datasets.indexed_dataset import IndexedDataset, IndexedDatasetBuilder

ROWS_PER_SHARD = 65_536


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One packed row."""

    tokens: NDArray[np.int64]
    """`[tokens]`, no padding."""
    lengths: NDArray[np.int64]
    """`[segments]`: prompt, program, prompt, program …; they add up to the tokens."""
    modes: NDArray[np.int64]
    """`[segments]`, each a `pack.Mode`."""


class ShardWriter:
    """Writes rows into as many shards as they need.

    writer = ShardWriter(folder)
    writer.add(row)
    paths = writer.close()
    """

    def __init__(self, folder: Path, *, rows_per_shard: int = ROWS_PER_SHARD) -> None:
        self._folder, self._rows_per_shard = folder, rows_per_shard
        self._builder: IndexedDatasetBuilder | None = None
        self._paths: list[Path] = []
        self._rows_in_shard = 0

    def add(self, row: Sequence[TokenizedExample]) -> None:
        """Append one row."""
        if self._builder is None:
            prefix = self._folder / f"rows_{len(self._paths) // 2:05d}"
            self._paths += [prefix.with_suffix(".bin"), prefix.with_suffix(".idx")]
            self._builder = IndexedDatasetBuilder(
                str(self._paths[-2]), dtype=np.uint16, multimodal=True
            )
        lengths: list[int] = []
        modes: list[int] = []
        for example in row:
            lengths += [example.num_prompt_tokens, len(example) - example.num_prompt_tokens]
            modes += [int(example.prompt_mode), int(example.program_mode)]
        tokens: Any = np.concatenate([example.tokens for example in row])
        self._builder.add_document(tokens, lengths, modes)
        self._rows_in_shard += 1
        if self._rows_in_shard == self._rows_per_shard:
            self._finish_shard()

    def close(self) -> list[Path]:
        """Flush the last shard to disk; the paths of all files written."""
        self._finish_shard()
        return list(self._paths)

    def _finish_shard(self) -> None:
        if self._builder is None:
            return
        self._builder.finalize(str(self._paths[-1]))
        for path in self._paths[-2:]:
            files.sync(path)
        self._builder, self._rows_in_shard = None, 0


class RowDataset:
    """The rows of a finished data folder, memory-mapped."""

    def __init__(self, folder: Path, *, sequence_length: int) -> None:
        """Open the folder.

        Args:
            folder: What `prepare` wrote.
            sequence_length: The row length that the run is configured for.

        Raises:
            FileNotFoundError: `prepare` did not finish there, or a shard is missing.
            DataError: the rows were packed for another length, or a shard does not have
                the size the manifest says.
        """
        try:
            content = manifest.read(folder)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"data.folder = {folder} holds no prepared data: run "
                "`python launch/prepare.py` with this config first"
            ) from error
        self.facts: dict[str, Any] = content["facts"]
        """What prepare counted: rows, tokens, drops."""
        if self.facts["sequence_length"] != sequence_length:
            raise DataError(
                f"data.sequence_length = {sequence_length}, but {folder} was packed into rows of "
                f"{self.facts['sequence_length']}: prepare it again or set data.sequence_length to "
                "that"
            )
        outputs = {
            name: facts
            for name, facts in content["outputs"].items()
            if name.endswith((".bin", ".idx"))
        }
        for name, facts in outputs.items():
            _check_size(folder / name, facts["bytes"])
        self.fingerprint: str = files.sha256_json(outputs)
        """Of the shards' content: equal data has it equal, wherever and whenever made."""
        prefixes = sorted(name.removesuffix(".idx") for name in outputs if name.endswith(".idx"))
        self._shards = [IndexedDataset(str(folder / name), multimodal=True) for name in prefixes]
        counts = (len(shard.document_indices) - 1 for shard in self._shards)
        self._ends = list(accumulate(counts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def row(self, index: int) -> Row:
        """Row number `index` in the order of writing.

        Raises:
            IndexError: there is no such row.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        which = bisect.bisect_right(self._ends, index)
        shard = self._shards[which]
        document = index - (self._ends[which - 1] if which else 0)
        first, last = (int(end) for end in shard.document_indices[document : document + 2])
        lengths = shard.sequence_lengths[first:last].astype(np.int64)
        # `shard.sequence_modes` asserts the truth of an array and fails; the index has them.
        modes = np.asarray(shard.index.sequence_modes)[first:last].astype(np.int64)
        tokens = shard.get(first, length=int(lengths.sum()))[0]
        return Row(tokens=np.asarray(tokens).astype(np.int64), lengths=lengths, modes=modes)


def _check_size(path: Path, num_bytes: int) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: prepare the data again")
    if path.stat().st_size != num_bytes:
        raise DataError(
            f"{path} has {path.stat().st_size} bytes and the manifest says {num_bytes}: "
            "the file is damaged, prepare the data again"
        )
