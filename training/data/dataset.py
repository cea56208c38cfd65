"""The packed sequences of a prepared data folder.

    dataset = SequenceDataset(folder, sequence_length=1024)
    sequence = dataset.sequence(17)

Opening reads the manifest and one header per shard: neither start-up time nor memory grows with the
data. Whether the shards' contents agree with the manifest is checked beside the training
(training/data/integrity.py).
"""

import bisect
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from training import files, manifest
from training.data.counts import outdated
from training.data.indexed import Bytes, IndexedShard, StoredFile
from training.data.pack import PackedSequence
from training.errors import DamagedFileError, DataError

_REQUESTS = 16
"""Sequences that are read at the same time where shards may be behind a URL."""
SHARD_ENDINGS = (".bin", ".idx")


class SequenceDataset:
    """The packed sequences of a prepared data folder, read when they are asked for."""

    def __init__(
        self,
        folder: Path,
        *,
        sequence_length: int,
        absent: Callable[[str], Bytes] | None = None,
    ) -> None:
        """Open the folder.

        Args:
            folder: A folder that `prepare` wrote.
            sequence_length: The length in tokens that the run is configured for.
            absent: Opens a shard's file that is not in the folder; None: that is an error.

        Raises:
            FileNotFoundError: `prepare` did not finish there, or a shard is missing.
            DataError: an older version prepared it, the sequences were packed for another
                length, or a shard has another size than its manifest lists.
            DamagedFileError: a shard's index is not one.
        """
        try:
            content = manifest.read(folder)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"data.folder = {folder} holds no prepared data: run "
                "`python launch/prepare.py` with this config first"
            ) from error
        self.facts: dict[str, Any] = content["facts"]
        """What prepare counted: sequences, tokens, dropped rows."""
        if problem := outdated(self.facts):
            raise DataError(f"data.folder = {folder} {problem}")
        if self.facts["sequence_length"] != sequence_length:
            raise DataError(
                f"data.sequence_length = {sequence_length}, but {folder} holds sequences of "
                f"{self.facts['sequence_length']} tokens: prepare it again, or set "
                f"data.sequence_length = {self.facts['sequence_length']}"
            )
        self._folder, self._sequence_length = folder, sequence_length
        outputs = shards_of(content)
        opened: dict[str, Bytes] = {}
        for name, facts in outputs.items():
            if absent and not (folder / name).exists():
                opened[name] = absent(name)
            else:
                _check_size(folder / name, facts["bytes"])
                opened[name] = StoredFile(folder / name)
        self.fingerprint: str = files.sha256_json(outputs)
        """A digest of the shards' contents: equal data has equal ones, wherever it was made."""
        prefixes = sorted(name.removesuffix(".idx") for name in outputs if name.endswith(".idx"))
        self._prefixes = prefixes
        self._shards = [
            IndexedShard(opened[f"{prefix}.idx"], opened[f"{prefix}.bin"]) for prefix in prefixes
        ]
        # A request takes tens of milliseconds, whatever its size.
        self._readers = ThreadPoolExecutor(_REQUESTS) if absent else None
        self._ends = list(accumulate(map(len, self._shards)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def source_sizes(self) -> list[int]:
        """The number of sequences of each source, in the order of their indices.

        Raises:
            DataError: sources were not packed apart, or one has no sequences.
        """
        sizes: list[int] = [source.get("sequences", 0) for source in self.facts["sources"]]
        if not all(sizes) or sum(sizes) != len(self):
            raise DataError(
                f"data.sources have weights, and {self._folder} holds {sizes} sequences of them, "
                f"{len(self):,} in all: prepare it again with these sources, or leave out a source "
                "that gives no example"
            )
        return sizes

    def sequences(self, indices: Sequence[int]) -> list[PackedSequence]:
        """Several packed sequences. Raises as `sequence`."""
        return list((self._readers.map if self._readers else map)(self.sequence, indices))

    def sequence(self, index: int) -> PackedSequence:
        """Packed sequence `index`, from 0, in the order of writing. Any thread may call it.

        Raises:
            IndexError: there is no such sequence.
            DamagedFileError: a shard's content is not possible, or cannot be read.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"sequence {index} of {len(self)}")
        which = bisect.bisect_right(self._ends, index)
        document = index - (self._ends[which - 1] if which else 0)
        tokens, lengths, modes = self._shards[which].document(document)
        if len(tokens) > self._sequence_length or len(lengths) % 2:
            raise DamagedFileError(
                f"{self._folder / self._prefixes[which]}.idx is damaged: its packed sequence "
                f"{document} has {len(tokens):,} tokens in {len(lengths):,} segments, where "
                f"{self._sequence_length:,} tokens in pairs of segments are the most"
            )
        return PackedSequence(tokens=tokens.astype(np.int64), lengths=lengths, modes=modes)


def shards_of(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The entries of a data folder's manifest that are shards, by name."""
    return {
        name: facts for name, facts in content["outputs"].items() if name.endswith(SHARD_ENDINGS)
    }


def _check_size(path: Path, num_bytes: int) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: prepare the data again")
    if path.stat().st_size != num_bytes:
        raise DataError(
            f"{path} has {path.stat().st_size} bytes, its manifest lists {num_bytes}: the file is "
            "damaged, prepare the data again"
        )
