"""Writes packed sequences to disk in megatron-core's indexed format, and reads them back.

A data folder holds `rows_00000.bin` (token ids, uint16) and `rows_00000.idx`, more such
pairs (shards), `tokenizer/` and `manifest.json`. In megatron-core's terms, each packed sequence
is a document, and each of its segments a sequence. Segments come in pairs, an example's prompt
and its program with the end token; the mode byte of each segment is its `pack.Mode`. Reading
maps the files into memory: neither start-up time nor memory grows with the data.

Only this module of `training/data` imports megatron-core.
"""

import bisect
import warnings
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training import files, manifest
from training.data.counts import outdated
from training.data.pack import Sequences
from training.errors import DataError

with warnings.catch_warnings():
    # It warns that Transformer Engine and Apex are absent; we use neither.
    warnings.simplefilter("ignore")
    from megatron.core.datasets.indexed_dataset import IndexedDataset, IndexedDatasetBuilder

SEQUENCES_PER_SHARD = 65_536


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedSequence:
    """Whole examples that are trained on side by side, read from a shard."""

    tokens: NDArray[np.int64]
    """`[tokens]`, without padding."""
    lengths: NDArray[np.int64]
    """`[segments]`, in tokens: prompt, program, prompt, program …; their sum is `len(tokens)`."""
    modes: NDArray[np.int64]
    """`[segments]`, each a `pack.Mode`."""


class ShardWriter:
    """Writes packed sequences into as many shards as they need.

    writer = ShardWriter(folder)
    writer.add(sequences)
    paths = writer.close()
    """

    def __init__(self, folder: Path, *, sequences_per_shard: int = SEQUENCES_PER_SHARD) -> None:
        self._folder, self._sequences_per_shard = folder, sequences_per_shard
        self._builder: IndexedDatasetBuilder | None = None
        self._paths: list[Path] = []
        self._sequences_in_shard = 0

    def add(self, sequences: Sequences) -> None:
        """Append packed sequences."""
        examples = sequences.examples
        tokens: Any = examples.tokens
        lengths, modes = examples.lengths.ravel().tolist(), examples.modes.ravel().tolist()
        num_segments = np.cumsum(2 * sequences.num_examples)
        num_tokens = np.cumsum(examples.lengths.ravel())[num_segments - 1]
        segment = token = 0
        for end, token_end in zip(num_segments.tolist(), num_tokens.tolist(), strict=True):
            builder = self._builder or self._start_shard()
            builder.add_document(tokens[token:token_end], lengths[segment:end], modes[segment:end])
            segment, token = end, token_end
            self._sequences_in_shard += 1
            if self._sequences_in_shard == self._sequences_per_shard:
                self._finish_shard()

    def close(self) -> list[Path]:
        """Flush the last shard to disk; returns the paths of all files written."""
        self._finish_shard()
        return list(self._paths)

    def _start_shard(self) -> IndexedDatasetBuilder:
        prefix = self._folder / f"rows_{len(self._paths) // 2:05d}"
        self._paths += [prefix.with_suffix(".bin"), prefix.with_suffix(".idx")]
        self._builder = IndexedDatasetBuilder(
            str(self._paths[-2]), dtype=np.uint16, multimodal=True
        )
        return self._builder

    def _finish_shard(self) -> None:
        if self._builder is None:
            return
        self._builder.finalize(str(self._paths[-1]))
        for path in self._paths[-2:]:
            files.sync(path)
        self._builder, self._sequences_in_shard = None, 0


class SequenceDataset:
    """The packed sequences of a prepared data folder, memory-mapped."""

    def __init__(self, folder: Path, *, sequence_length: int) -> None:
        """Open the folder.

        Args:
            folder: A folder that `prepare` wrote.
            sequence_length: The length in tokens that the run is configured for.

        Raises:
            FileNotFoundError: `prepare` did not finish there, or a shard is missing.
            DataError: an older version prepared it, the sequences were packed for another
                length, or a shard has another size than its manifest lists.
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
        outputs = {
            name: facts
            for name, facts in content["outputs"].items()
            if name.endswith((".bin", ".idx"))
        }
        for name, facts in outputs.items():
            _check_size(folder / name, facts["bytes"])
        self.fingerprint: str = files.sha256_json(outputs)
        """A digest of the shards' contents: equal data has equal ones, wherever it was made."""
        prefixes = sorted(name.removesuffix(".idx") for name in outputs if name.endswith(".idx"))
        self._shards = [IndexedDataset(str(folder / name), multimodal=True) for name in prefixes]
        counts = (len(shard.document_indices) - 1 for shard in self._shards)
        self._ends = list(accumulate(counts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def sequence(self, index: int) -> PackedSequence:
        """Packed sequence `index`, from 0, in the order of writing.

        Raises:
            IndexError: there is no such sequence.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"sequence {index} of {len(self)}")
        which = bisect.bisect_right(self._ends, index)
        shard = self._shards[which]
        document = index - (self._ends[which - 1] if which else 0)
        first, last = (int(end) for end in shard.document_indices[document : document + 2])
        lengths = shard.sequence_lengths[first:last].astype(np.int64)
        # `shard.sequence_modes` asserts the truth of an array, which raises; the index has them.
        modes = np.asarray(shard.index.sequence_modes)[first:last].astype(np.int64)
        tokens = shard.get(first, length=int(lengths.sum()))[0]
        return PackedSequence(
            tokens=np.asarray(tokens).astype(np.int64), lengths=lengths, modes=modes
        )


def _check_size(path: Path, num_bytes: int) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: prepare the data again")
    if path.stat().st_size != num_bytes:
        raise DataError(
            f"{path} has {path.stat().st_size} bytes, its manifest lists {num_bytes}: the file is "
            "damaged, prepare the data again"
        )
