"""Candidates on disk: Parquet, one column per field of `Candidate`, in committed parts.

    write(part_path(folder, 3), candidates, labels={"made_from": fingerprint})
    labels(part_path(folder, 3))     # None: not there, or not whole
    for candidate in read(folder): ...

A part is written beside its place and renamed into it, so it is whole or not there. Its
labels are in the file's own metadata: no second file can disagree with it.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from training.data import tables
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
_LABELS = b"tinygsm"
_PART = re.compile(r"part-\d{5,}\.parquet")
_ROWS_AT_ONCE = 16_384


def part_path(folder: Path, number: int) -> Path:
    """Where part `number` of a folder is or would be."""
    return folder / f"part-{number:05d}.parquet"


def part_paths(folder: Path) -> list[Path]:
    """The parts of a folder by number; they are whole, since only whole ones have the name."""
    found = [path for path in folder.glob("part-*") if _PART.fullmatch(path.name)]
    return sorted(found, key=part_number)


def part_number(path: Path) -> int:
    """The number of a part's file."""
    return int(path.stem.removeprefix("part-"))


def write(path: Path, candidates: Sequence[Candidate], *, labels: Mapping[str, str]) -> None:
    """Durably write one file; no candidates make a whole file too."""
    rows = [_writable(asdict(candidate)) for candidate in candidates]
    table = pa.Table.from_pylist(rows, schema=_labelled(labels))
    with replacing(path) as temporary:
        parquet.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def labels(path: Path) -> dict[str, str] | None:
    """What the file was labelled with; None when it is missing, damaged or another's."""
    try:
        metadata = parquet.read_schema(path).metadata or {}
        return json.loads(metadata[_LABELS])
    except (OSError, KeyError, ValueError, pa.ArrowInvalid):
        return None


def read(source: Path) -> Iterator[Candidate]:
    """The candidates of one file, or of all parts of a folder in order, a batch at a time.

    Raises:
        FileNotFoundError: there is no such file, or the folder holds no part.
        DataError: a file is not a Parquet file of candidates.
    """
    paths = part_paths(source) if source.is_dir() else [source]
    if not paths or not all(path.is_file() for path in paths):
        raise FileNotFoundError(f"{source} holds no candidates: run launch/sample.py first")
    for path in paths:
        for candidate in read_or_damage(path):
            if isinstance(candidate, tables.Damaged):
                raise DataError(candidate.message)
            yield candidate


def read_or_damage(path: Path) -> Iterator[Candidate | tables.Damaged]:
    """The candidates of one file, with a `Damaged` for each that cannot be read.

    Raises:
        DataError: it is a Parquet file of other columns.
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


def question_texts(paths: Iterable[Path]) -> set[str]:
    """The distinct questions of candidates; no other column is read. Raises as `read`."""
    found: set[str] = set()
    for path in paths:
        for batch in _batches(path, ["question"]):
            found.update(batch.column("question").unique().to_pylist())
    return found


def merge(parts: Iterable[Path], target: Path) -> None:
    """Durably write the candidates of several files as one, in order, a batch at a time."""
    with (
        replacing(target) as temporary,
        parquet.ParquetWriter(temporary, SCHEMA, write_page_checksum=True) as writer,
    ):
        for path in parts:
            for batch in _batches(path):
                writer.write_batch(batch.cast(SCHEMA))


def write_questions(path: Path, questions: Sequence[Question]) -> None:
    """Durably write questions with their gold answers: `id`, `text`, `gold`, `tags` (JSON)."""
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


def _labelled(content: Mapping[str, str]) -> pa.Schema:
    return SCHEMA.with_metadata({_LABELS: json.dumps(dict(content))})


def _writable(row: dict[str, Any]) -> dict[str, Any]:
    # What a program prints or a byte-level model writes may hold half a character, which
    # no file of UTF-8 takes: one such candidate must not cost a part of a thousand.
    for name in ("question", "program", "error"):
        row[name] = row[name].encode("utf-8", "replace").decode("utf-8")
    return row
