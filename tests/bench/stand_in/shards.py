"""Writes the stand-in's Parquet shards, one after the other and in several processes."""

import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.stand_in import rows

ROW_GROUP_ROWS = 32_768
"""Rows of a row group: at about 600 bytes each, what a reader holds is small."""
_SCHEMA = pa.schema([("question", pa.string()), ("code", pa.string())])


@dataclass(frozen=True, slots=True)
class Shards:
    """Which rows are written, and where."""

    folder: Path
    num_rows: int
    num_shards: int
    seed: int

    def path(self, shard: int) -> Path:
        """The file of a shard, named as on the hub."""
        return self.folder / f"train-{shard:05d}-of-{self.num_shards:05d}.parquet"

    def counts_path(self, shard: int) -> Path:
        """What is known of a shard's rows; written after the shard."""
        return self.folder / "counts" / f"{shard:05d}.json"

    def rows_of(self, shard: int) -> range:
        """The numbers of a shard's rows; shards differ by at most one row."""
        begin = shard * self.num_rows // self.num_shards
        return range(begin, (shard + 1) * self.num_rows // self.num_shards)

    def is_written(self, shard: int) -> bool:
        """Whether the shard is complete and of these settings."""
        path = self.counts_path(shard)
        if not path.is_file() or not self.path(shard).is_file():
            return False
        return json.loads(path.read_text())["settings"] == self._settings(shard)

    def _settings(self, shard: int) -> dict[str, Any]:
        numbers = self.rows_of(shard)
        return {"seed": self.seed, "rows": [numbers.start, numbers.stop]}

    def write(self, shard: int, writer: rows.Writer) -> None:
        """Write a shard: under another name first, so that a killed writer leaves none behind."""
        partial = self.path(shard).with_suffix(".partial")
        counts: Counter[str] = Counter()
        with pq.ParquetWriter(partial, _SCHEMA, compression="snappy") as file:
            for numbers in _cut(self.rows_of(shard), ROW_GROUP_ROWS):
                file.write_table(_table(numbers, writer, counts))
        os.replace(partial, self.path(shard))
        text = json.dumps(
            {"settings": self._settings(shard), "counts": dict(sorted(counts.items()))}
        )
        partial = self.counts_path(shard).with_suffix(".partial")
        partial.write_text(text + "\n")
        os.replace(partial, self.counts_path(shard))

    def counts(self) -> Counter[str]:
        """The counts of all shards."""
        total: Counter[str] = Counter()
        for shard in range(self.num_shards):
            total.update(json.loads(self.counts_path(shard).read_text())["counts"])
        return total


def _cut(numbers: range, size: int) -> Iterator[range]:
    for begin in range(numbers.start, numbers.stop, size):
        yield range(begin, min(begin + size, numbers.stop))


def _table(numbers: range, writer: rows.Writer, counts: Counter[str]) -> pa.Table:
    questions: list[str] = []
    codes: list[str] = []
    for number in numbers:
        row = writer.row(number)
        questions.append(row.question)
        codes.append(row.code)
        counts["rows"] += 1
        counts["repeats an earlier question"] += row.is_repeated
        counts["wrong program"] += row.is_wrong
        if row.form:
            counts[row.form] += 1
    return pa.table({"question": questions, "code": codes}, schema=_SCHEMA)


def write(shards: Shards, gsm8k_train: Path, *, num_workers: int) -> list[int]:
    """Write the missing shards; returns their numbers.

    Args:
        shards: Which rows, and where.
        gsm8k_train: GSM8K's `train.jsonl`.
        num_workers: Processes that write.
    """
    shards.counts_path(0).parent.mkdir(parents=True, exist_ok=True)
    missing = [shard for shard in range(shards.num_shards) if not shards.is_written(shard)]
    if not missing:
        return []
    global _writer, _shards
    _writer, _shards = rows.Writer(gsm8k_train, seed=shards.seed), shards
    if num_workers == 1:
        for shard in missing:
            _write_one(shard)
        return missing
    # Forked, so that the templates are made once.
    with multiprocessing.get_context("fork").Pool(min(num_workers, len(missing))) as pool:
        for shard in pool.imap_unordered(_write_one, missing):
            print(f"wrote {shards.path(shard).name}", flush=True)
    return missing


_writer: rows.Writer | None = None
_shards: Shards | None = None


def _write_one(shard: int) -> int:
    assert _writer is not None and _shards is not None  # set before the fork
    _shards.write(shard, _writer)
    return shard
