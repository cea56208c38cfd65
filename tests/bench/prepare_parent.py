"""The CPU time and memory of what `prepare` does in one process, whatever its number of workers.

    python -m tests.bench.prepare_parent --rows 200000 --key-columns 1

Workers convert rows into parts; the calling process reads them, finds duplicates, packs and writes
shards. So its CPU time per row is the ceiling of what more workers can gain. Rows are made up, with
lengths like TinyGSM's. Prints CPU microseconds per row and the peak of the resident memory of each
step, in the order in which they run. `write parts` is the workers' step.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from training.config import DataConfig
from training.data import parts
from training.data.counts import Counts
from training.data.dedupe import Deduplicator
from training.data.pack import Examples, Mode, packed
from training.data.select import remaining

_PART_ROWS = 1024
_LARGEST_TOKEN = 50_000


class Steps:
    """CPU time and memory of one step after the other."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}

    @contextmanager
    def step(self, name: str, num_rows: int) -> Generator[None]:
        """Measure what is done inside."""
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        start = time.process_time()
        yield
        seconds = time.process_time() - start
        status = Path("/proc/self/status").read_text().split()
        self.found[name] = {
            "microseconds_per_row": round(seconds / num_rows * 1e6, 3),
            "peak_megabytes": round(int(status[status.index("VmHWM:") + 1]) / 1e3),
        }


def part(generator: np.random.Generator, *, key_columns: int) -> parts.Converted:
    """A part of made-up examples; one in fifty repeats a key."""
    lengths = generator.gamma(9, (8, 10), size=(_PART_ROWS, 2)).clip(10, 400).astype(np.int64)
    # Some tokens are far more frequent than others, as in text.
    tokens = generator.random(int(lengths.sum())) ** 4 * _LARGEST_TOKEN
    keys = generator.integers(2**64, size=(_PART_ROWS, key_columns), dtype=np.uint64)
    keys[::50] = 1
    modes = np.tile(np.array([Mode.CONTEXT, Mode.SUPERVISED], np.uint8), (_PART_ROWS, 1))
    return parts.Converted(
        head=parts.Head(source=0, num_rows=_PART_ROWS, keys=keys),
        examples=Examples(tokens=tokens.astype(np.uint16), lengths=lengths, modes=modes),
        order=np.zeros(_PART_ROWS, np.uint64),
    )


def main() -> None:
    """Measure every step with the numbers of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the parts")
    parser.add_argument("--keys", type=int, default=12_300_000, help="rows without tokens")
    parser.add_argument("--key-columns", type=int, default=1, help="more: near duplicates too")
    parser.add_argument("--sequence-length", type=int, default=1280)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder), options)
    print(json.dumps(measured, indent=2))


def measure(folder: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """The steps over parts in `folder`, then duplicates among many keys."""
    steps, generator = Steps(), np.random.default_rng(0)
    paths = [parts.path_of(folder / "parts", n) for n in range(options.rows // _PART_ROWS)]
    num_rows = len(paths) * _PART_ROWS
    made = [part(generator, key_columns=options.key_columns) for _ in range(8)]
    with steps.step("write parts", num_rows):
        for number, path in enumerate(paths):
            parts.write(path, made[number % len(made)], made_from="benchmark")
    made.clear()
    with steps.step("read keys", num_rows):
        heads = [parts.read_head(path) for path in paths]
    del heads
    data = DataConfig.model_validate(
        {
            "folder": str(folder),
            "sources": [{"kind": "parquet", "path": str(folder)}],
            "sequence_length": options.sequence_length,
        }
    )
    with steps.step("find duplicates among many keys", options.keys):
        _many_keys(folder / "many", generator, options)
    from training.data.shards import ShardWriter  # megatron-core

    writer, counts = ShardWriter(folder), Counts(data, str)
    counts.sequences.append(0)
    with (
        steps.step("read, find duplicates, pack and write shards", num_rows),
        remaining(data, paths, counts, keys=folder / "keys") as (examples,),
    ):
        for sequences in packed(examples, sequence_length=options.sequence_length):
            writer.add(sequences)
            counts.sequences[0] += len(sequences)
        writer.close()
    steps.found["fill"] = {"fraction": 1 - counts.facts()["padding_fraction"]}
    return steps.found


def _many_keys(folder: Path, generator: np.random.Generator, options: argparse.Namespace) -> None:
    with Deduplicator(folder, for_verifier=False) as deduplicator:
        shape = (1 << 17, options.key_columns)
        block = generator.integers(2**64, size=shape, dtype=np.uint64)
        num_blocks = options.keys // len(block)
        for number in range(num_blocks):
            deduplicator.add(block * np.uint64(2 * number + 1))
        deduplicator.mark(num_blocks * len(block))


if __name__ == "__main__":
    main()
