"""Small packed data for tests: made-up examples, written and opened as `prepare` would."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training import manifest
from training.data.dataset import SequenceDataset
from training.data.pack import Mode, TokenizedExample, packed
from training.data.shards import ShardWriter


def example(
    prompt: Sequence[int],
    program: Sequence[int],
    prompt_mode: Mode = Mode.CONTEXT,
    program_mode: Mode = Mode.SUPERVISED,
) -> TokenizedExample:
    return TokenizedExample(
        tokens=np.array([*prompt, *program], np.uint16),
        num_prompt_tokens=len(prompt),
        prompt_mode=prompt_mode,
        program_mode=program_mode,
    )


def random_examples(count: int, *, seed: int = 0, longest: int = 40) -> list[TokenizedExample]:
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
    sequences: Sequence[Sequence[TokenizedExample]],
    *,
    sequence_length: int,
    head: str = "language_model",
    sequences_per_shard: int = 65_536,
    source_sizes: Sequence[int] = (),
) -> SequenceDataset:
    folder.mkdir(parents=True, exist_ok=True)
    writer = ShardWriter(folder, sequences_per_shard=sequences_per_shard)
    for sequence in sequences:
        writer.add(sequence)
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
            "sources": [{"sequences": size} for size in source_sizes],
        },
    )
    return SequenceDataset(folder, sequence_length=sequence_length)


def random_dataset(
    folder: Path, num_examples: int = 200, sequence_length: int = 64
) -> SequenceDataset:
    examples = random_examples(num_examples)
    return write(
        folder,
        list(packed(examples, sequence_length=sequence_length)),
        sequence_length=sequence_length,
    )
