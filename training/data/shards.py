"""Writes packed sequences to disk in megatron-core's indexed format.

A data folder holds `rows_00000.bin` (token ids, of 16 or 32 bits: `pack.id_dtype`) and
`rows_00000.idx`, more such pairs (shards), `tokenizer/` and `manifest.json`. In megatron-core's
terms, each packed sequence is a document, and each of its segments a sequence. Segments come in
pairs, an example's prompt and its program with the end token; the mode byte of each segment is its
`pack.Mode`. training/data/dataset.py reads them.

Only this module of `training/data` imports megatron-core.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from training import files
from training.data.pack import Sequences

with warnings.catch_warnings():
    # It warns that Transformer Engine and Apex are absent; we use neither.
    warnings.simplefilter("ignore")
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

SEQUENCES_PER_SHARD = 65_536


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
            builder = self._builder or self._start_shard(tokens.dtype.type)
            builder.add_document(tokens[token:token_end], lengths[segment:end], modes[segment:end])
            segment, token = end, token_end
            self._sequences_in_shard += 1
            if self._sequences_in_shard == self._sequences_per_shard:
                self._finish_shard()

    def close(self) -> list[Path]:
        """Flush the last shard to disk; returns the paths of all files written."""
        self._finish_shard()
        return list(self._paths)

    def _start_shard(self, dtype: type[np.uint16 | np.int32]) -> IndexedDatasetBuilder:
        prefix = self._folder / f"rows_{len(self._paths) // 2:05d}"
        self._paths += [prefix.with_suffix(".bin"), prefix.with_suffix(".idx")]
        self._builder = IndexedDatasetBuilder(str(self._paths[-2]), dtype=dtype, multimodal=True)
        return self._builder

    def _finish_shard(self) -> None:
        if self._builder is None:
            return
        self._builder.finalize(str(self._paths[-1]))
        for path in self._paths[-2:]:
            files.sync(path)
        self._builder, self._sequences_in_shard = None, 0
