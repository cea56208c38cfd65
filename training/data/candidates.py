"""Reads and writes candidates: Parquet, one column per field of `Candidate`, in numbered parts.

    write(part_path(folder, 3), candidates, labels={"made_from": fingerprint})
    labels(part_path(folder, 3))     # None: missing or damaged
    for candidate in read(folder): ...

This module alone knows the columns, and which files of a folder hold candidates. A part is
complete or absent; its labels are stored in the file itself (`parquet_files`).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from training.data import parquet_files, tables
from training.errors import DataError
from training.files import replacing
from training.records import Candidate, Question

SCHEMA = pa.schema(
    [
        pa.field("question_id", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
        pa.field("program", pa.string(), nullable=False),
        pa.field("generator", pa.string(), nullable=False),
        pa.field("temperature", pa.float64(), nullable=False),
        pa.field("index", pa.int32(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("error", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("num_tokens", pa.int32(), nullable=False),
        pa.field("finished", pa.bool_(), nullable=False),
        pa.field("score", pa.float64()),
    ]
)
"""Field names, order and types are those of `records.Candidate`."""

_MAY_BE_NONE = ("value", "score")
_PART = re.compile(r"part-\d{5,}\.parquet")
_SLICE = re.compile(r"slice-\d{5,}-\d+\.parquet")
_ROWS_AT_ONCE = 16_384


def part_path(folder: Path, number: int) -> Path:
    """The file of part `number` in a folder, whether or not it exists."""
    return folder / f"part-{number:05d}.parquet"


def part_paths(folder: Path) -> list[Path]:
    """The parts of a folder, sorted by number. Only complete files have such names."""
    parts = [path for path in folder.glob("part-*") if _PART.fullmatch(path.name)]
    return sorted(parts, key=part_number)


def slice_path(folder: Path, number: int, index: int) -> Path:
    """The file of one slice of part `number`: no reader of parts takes it for one."""
    return folder / f"slice-{number:05d}-{index}.parquet"


def slice_paths(folder: Path) -> list[Path]:
    """The slices in a folder."""
    return [path for path in folder.glob("slice-*") if _SLICE.fullmatch(path.name)]


def files_at(source: Path) -> list[Path]:
    """The files of candidates that a path names: itself, or all parts of a folder by number.

    Raises:
        FileNotFoundError: there is no such file, or the folder holds no part.
    """
    paths = part_paths(source) if source.is_dir() else [source]
    if not paths or not all(path.is_file() for path in paths):
        raise FileNotFoundError(f"{source} holds no candidates: run launch/sample.py first")
    return paths


def part_number(path: Path) -> int:
    """The number of a part's file, or of the part that a slice's file is of."""
    return int(path.stem.split("-")[1])


def write(path: Path, candidates: Sequence[Candidate], *, labels: Mapping[str, str]) -> None:
    """Durably write one file, which may hold no candidates at all."""
    rows = [_writable(asdict(candidate)) for candidate in candidates]
    parquet_files.write(path, pa.Table.from_pylist(rows, schema=SCHEMA), label=labels)


def labels(path: Path) -> dict[str, str] | None:
    """The labels that a file was written with; None if it is missing, damaged or has none."""
    return parquet_files.label_of(path)


def read(source: Path) -> Iterator[Candidate]:
    """The candidates of one file, or of all parts of a folder in order, a batch at a time.

    Raises:
        FileNotFoundError: as `files_at`.
        DataError: a file is not a Parquet file of candidates.
    """
    for path in files_at(source):
        for candidate in read_or_damage(path):
            if isinstance(candidate, tables.Damaged):
                raise DataError(candidate.message)
            yield candidate


def read_or_damage(path: Path) -> Iterator[Candidate | tables.Damaged]:
    """The candidates of one file, with a `Damaged` in place of each that cannot be read.

    Raises:
        DataError: the Parquet file has other columns.
    """
    for row in tables.rows_or_damage([path], SCHEMA.names):
        if isinstance(row, tables.Damaged):
            yield row
        elif missing := [
            name for name in SCHEMA.names if row[name] is None and name not in _MAY_BE_NONE
        ]:
            yield tables.Damaged(
                reason="row is damaged", message=f"{path} holds a row without {', '.join(missing)}"
            )
        else:
            yield Candidate(**row)


def question_texts(paths: Sequence[Path], *, skip_damaged: bool = False) -> set[str]:
    """The distinct questions of candidates; no other column is read.

    Args:
        paths: Files of candidates.
        skip_damaged: Leave out what cannot be read, rather than raise as `read`.
    """
    texts: set[str] = set()
    if skip_damaged:
        rows = tables.rows_or_damage(paths, ["question"])
        return {row["question"] or "" for row in rows if not isinstance(row, tables.Damaged)}
    for path in paths:
        for batch in _batches(path, ["question"]):
            texts.update(batch.column("question").unique().to_pylist())
    return texts


def merge(parts: Iterable[Path], target: Path) -> None:
    """Durably write the candidates of several files as one file, a batch at a time."""
    with (
        replacing(target) as temporary,
        parquet.ParquetWriter(temporary, SCHEMA, write_page_checksum=True) as writer,
    ):
        for path in parts:
            for batch in _batches(path):
                writer.write_batch(batch.cast(SCHEMA))


def write_questions(path: Path, questions: Sequence[Question]) -> None:
    """Durably write questions with their gold answers.

    Columns: `id`, `text`, `gold` and `tags`, the last as JSON.
    """
    rows = [{**asdict(question), "tags": json.dumps(question.tags)} for question in questions]
    schema = pa.schema(
        [("id", pa.string()), ("text", pa.string()), ("gold", pa.float64()), ("tags", pa.string())]
    )
    with replacing(path) as temporary:
        parquet.write_table(pa.Table.from_pylist(rows, schema=schema), temporary)


def _batches(path: Path, columns: Sequence[str] = SCHEMA.names) -> Iterator[pa.RecordBatch]:
    for batch in tables.batches(path, columns, num_rows=_ROWS_AT_ONCE):
        if isinstance(batch, tables.Damaged):
            raise DataError(batch.message)
        yield batch


def _writable(row: dict[str, Any]) -> dict[str, Any]:
    # A byte-level model may write half a character, and a program may print one. UTF-8 cannot
    # encode it, and one such candidate must not make a part of a thousand unwritable.
    for name in ("question", "program", "error"):
        row[name] = row[name].encode("utf-8", "replace").decode("utf-8")
    return row
