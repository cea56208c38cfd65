"""The same packed sequences in the form of each loader that is compared.

Sequences as `prepare` writes them: examples of TinyGSM-like lengths, 1,024 tokens at most. The
tokens are random: no loader looks at them.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training import manifest

SEQUENCE_LENGTH = 1024
SEQUENCES_PER_SHARD = 65_536
_BLOCK = 4096


def sequences(count: int, *, seed: int = 1) -> Iterator[tuple[NDArray[np.uint16], list[int]]]:
    """Tokens and segment lengths of each sequence: prompt, program, prompt, program …"""
    generator = np.random.default_rng(seed)
    for start in range(0, count, _BLOCK):
        tokens = generator.integers(1, 50_000, (_BLOCK, SEQUENCE_LENGTH), dtype=np.uint16)
        # Four examples of about 250 tokens, as in TinyGSM, with 0.5 % padding.
        lengths = generator.integers(90, 165, (_BLOCK, 8))
        lengths[:, -1] = SEQUENCE_LENGTH - 5 - lengths[:, :-1].sum(axis=1)
        for row in range(min(_BLOCK, count - start)):
            found: list[int] = [length for length in lengths[row].tolist() if length > 0]
            found = found[: len(found) // 2 * 2]
            yield tokens[row, : min(sum(found), SEQUENCE_LENGTH)], _cut(found)


def _cut(lengths: list[int]) -> list[int]:
    """The last segment is shortened where the sum is above the length of a sequence."""
    lengths[-1] -= max(sum(lengths) - SEQUENCE_LENGTH, 0)
    return lengths


def write_shards(
    folder: Path, count: int, *, dtype: type[np.uint16 | np.int32] = np.uint16
) -> None:
    """megatron-core's form, with our manifest: ours and megatron-core read these files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    folder.mkdir(parents=True)
    outputs: list[Path] = []
    builder: Any = None
    most_examples = 0
    for number, (tokens, lengths) in enumerate(sequences(count)):
        if number % SEQUENCES_PER_SHARD == 0:
            if builder:
                builder.finalize(str(outputs[-1]))
            prefix = folder / f"rows_{number // SEQUENCES_PER_SHARD:05d}"
            outputs += [prefix.with_suffix(".bin"), prefix.with_suffix(".idx")]
            builder = IndexedDatasetBuilder(str(outputs[-2]), dtype=dtype, multimodal=True)
        builder.add_document(tokens.astype(dtype), lengths, [0, 1] * (len(lengths) // 2))
        most_examples = max(most_examples, len(lengths) // 2)
    builder.finalize(str(outputs[-1]))
    facts = {
        "sequence_length": SEQUENCE_LENGTH,
        "head": "language_model",
        "sequences": count,
        "most_examples_in_a_sequence": most_examples,
    }
    manifest.commit(folder, stage="prepare", config={}, inputs={}, outputs=outputs, facts=facts)


def write_wide_shards(folder: Path, count: int) -> None:
    """The same with 32 bits for an id, as for a vocabulary of Qwen's or Llama 3's size."""
    write_shards(folder, count, dtype=np.int32)


def write_arrow(folder: Path, count: int) -> None:
    """Hugging Face `datasets`' form: Arrow files with a list of uint16 a sequence."""
    from datasets import Dataset, Features, List, Value

    def rows() -> Iterator[dict[str, Any]]:
        for tokens, _ in sequences(count):
            yield {"tokens": tokens}

    features = Features({"tokens": List(Value("uint16"))})
    cache = str(folder) + ".cache"
    made: Any = Dataset.from_generator(rows, features=features, cache_dir=cache)
    made.save_to_disk(str(folder))


def write_mds(folder: Path, count: int) -> None:
    """MosaicML Streaming's form: MDS shards with an array of uint16 a sequence."""
    from tests.bench.loading.loaders import streaming

    with streaming().MDSWriter(out=str(folder), columns={"tokens": "ndarray:uint16"}) as writer:
        for tokens, _ in sequences(count):
            writer.write({"tokens": tokens})


WRITERS = {
    "shards": write_shards,
    "wide_shards": write_wide_shards,
    "arrow": write_arrow,
    "mds": write_mds,
}
