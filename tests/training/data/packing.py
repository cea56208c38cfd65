"""Small packed data for tests: made-up examples, written and opened as `prepare` would."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from training import manifest
from training.data.dataset import SequenceDataset
from training.data.pack import Examples, Mode, Sequences, id_dtype, packed
from training.data.shards import ShardWriter


def example(
    prompt: Sequence[int],
    program: Sequence[int],
    prompt_mode: Mode = Mode.CONTEXT,
    program_mode: Mode = Mode.SUPERVISED,
) -> Examples:
    """One example."""
    return Examples(
        tokens=np.array([*prompt, *program], id_dtype(max(*prompt, *program) + 1)),
        lengths=np.array([[len(prompt), len(program)]], np.int64),
        modes=np.array([[prompt_mode, program_mode]], np.uint8),
    )


def random_examples(count: int, *, seed: int = 0, longest: int = 40) -> list[Examples]:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(2, longest // 2 + 1, size=(count, 2))
    return [
        example(
            generator.integers(1, 60_000, size=prompt).tolist(),
            generator.integers(1, 60_000, size=program).tolist(),
        )
        for prompt, program in lengths
    ]


def write(
    folder: Path,
    sequences: Sequence[Sequence[Examples]],
    *,
    sequence_length: int,
    head: str = "language_model",
    sequences_per_shard: int = 65_536,
    source_sizes: Sequence[int] = (),
) -> SequenceDataset:
    folder.mkdir(parents=True, exist_ok=True)
    writer = ShardWriter(folder, sequences_per_shard=sequences_per_shard)
    for examples in sequences:
        num_examples = np.array([sum(map(len, examples))])
        writer.add(Sequences(examples=Examples.concatenate(examples), num_examples=num_examples))
    manifest.commit(
        folder,
        stage="prepare",
        config={},
        inputs={},
        outputs=writer.close(),
        facts={
            "sequence_length": sequence_length,
            "head": head,
            "sequences": len(sequences),
            "most_examples_in_a_sequence": max(
                (sum(map(len, examples)) for examples in sequences), default=0
            ),
            "sources": [{"sequences": size} for size in source_sizes],
        },
    )
    return SequenceDataset(folder, sequence_length=sequence_length)


def split(sequences: Iterable[Sequences]) -> list[list[Examples]]:
    """The examples of each sequence, one by one."""
    found: list[list[Examples]] = []
    for window in sequences:
        numbers = iter(range(len(window.examples)))
        for num_examples in window.num_examples.tolist():
            indices = [next(numbers) for _ in range(num_examples)]
            found.append([window.examples.between(index, index + 1) for index in indices])
    return found


def random_dataset(
    folder: Path, num_examples: int = 200, sequence_length: int = 64
) -> SequenceDataset:
    examples = random_examples(num_examples)
    return write(
        folder,
        split(packed(examples, sequence_length=sequence_length)),
        sequence_length=sequence_length,
    )
