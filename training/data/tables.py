"""Reads rows of JSON, JSON-lines and Parquet files as dictionaries, one after the other.

The meaning of the columns is not known here. The path of a folder means the files of one split
in it, sorted by name.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as parquet

from training.errors import DataError

Row = Mapping[str, Any]

PARQUET = (".parquet",)
JSON = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
"""A `.json.gz` is read as JSON lines."""
_SPLITS = ("train", "test", "validation")
_ROWS_AT_ONCE = 4096
_MAX_LINE_BYTES = 1 << 24
"""A longer line counts as damaged: no question with its program has 16 MiB."""
_MAX_JSON_BYTES = 1 << 28
_MAX_CAUSE_CHARACTERS = 200
_DAMAGE = (pa.ArrowException, OSError, EOFError, zlib.error, ValueError, MemoryError)
"""Errors that readers raise on damaged content; `_raise_if_unreadable` lets others through."""


def files_at(
    path: Path, *, split: str, setting: str, endings: tuple[str, ...] = PARQUET + JSON
) -> list[Path]:
    """The table files that `path` names: itself, or those of a folder, with one of `endings`.

    In a folder, the first ending that has any files counts (Parquet, then JSON lines, then JSON).
    Of those, the first of these groups that is not empty: files named exactly for the split
    (`test.jsonl`), numbered ones (`main/test-00000-of-00002.parquet`), files in folders named for
    the split, a single variant (`test_socratic.jsonl`), or all files, if none is named for a split.

    Raises:
        DataError: there are none, there are several variants, or `path` is a file of another
            ending or one that is named for another split.
    """
    if path.is_file():
        if not path.name.endswith(endings):
            raise DataError(
                f"{setting} = {str(path)!r} does not end in {' or '.join(endings)}: set the kind "
                "of this file, or rename it"
            )
        named = _split_of(path.name)
        if named not in ("", split) and not _is_named_for(path.name, split):
            raise DataError(
                f"{setting} = {str(path)!r} is named for the {named} split, but split = {split!r}: "
                f"set split = {named!r}, or the path of {split} data"
            )
        return [path]
    for ending in endings:
        found = sorted(file for file in path.rglob(f"*{ending}") if file.is_file())
        named = (
            [file for file in found if file.name == split + ending]
            or [file for file in found if re.match(rf"{re.escape(split)}[-_.]\d", file.name)]
            or [file for file in found if split in file.relative_to(path).parts[:-1]]
        )
        if named:
            return named
        variants = [file for file in found if _is_named_for(file.name, split)]
        if len(variants) > 1:
            raise DataError(
                f"{setting} = {str(path)!r} holds no {split}{ending}, but "
                f"{', '.join(file.name for file in variants)}: name one of them"
            )
        if variants:
            return variants
        if found and not any(_split_of(file.name) for file in found):
            return found
    raise DataError(
        f"{setting} = {str(path)!r} holds no {split} split: expected {split}{endings[0]}, "
        f"{split}-*{endings[0]} or other files ending in {', '.join(endings)}"
    )


def _is_named_for(name: str, split: str) -> bool:
    return re.match(rf"{re.escape(split)}[-_.]", name) is not None


def _split_of(name: str) -> str:
    """The common split that a file is named for; empty if it is named for none."""
    return next((split for split in _SPLITS if _is_named_for(name, split)), "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Damaged:
    """Takes the place of a row, or of the rest of a file, that cannot be read."""

    reason: str
    """A short reason, by which damage is counted."""
    message: str
    """A sentence that names the file, and the line or the row group in it."""


def rows_of(files: Sequence[Path], columns: Sequence[str] = ()) -> Iterator[Row]:
    """The rows of these files in order; of a Parquet file only `columns`, if given.

    Raises:
        DataError: a file or a row of it cannot be read; the message names both.
    """
    for row in rows_or_damage(files, columns):
        if isinstance(row, Damaged):
            raise DataError(row.message)
        yield row


def rows_or_damage(files: Sequence[Path], columns: Sequence[str] = ()) -> Iterator[Row | Damaged]:
    """As `rows_of`, with a `Damaged` in place of each row or rest of a file that is damaged.

    Raises:
        DataError: a Parquet file has other columns.
    """
    for path in files:
        if path.suffix == ".parquet":
            yield from _parquet(path, columns)
        elif path.suffix == ".json":
            yield from _json(path)
        else:
            yield from _json_lines(path)


def num_rows(files: Sequence[Path]) -> int:
    """The number of rows, reading no more than necessary; 0 for damaged files."""
    return sum(map(_num_rows, files))


def _num_rows(path: Path) -> int:
    try:
        if path.suffix == ".parquet":
            return parquet.read_metadata(path).num_rows
        if path.suffix == ".json":
            return len(json.loads(_text_of(path)))
        return sum(1 for _, line in lines(path) if line is None or line.strip())
    except (*_DAMAGE, TypeError, RecursionError) as error:
        _raise_if_unreadable(error)
        return 0


# --- Parquet.


def batches(
    path: Path, columns: Sequence[str], *, num_rows: int
) -> Iterator[pa.RecordBatch | Damaged]:
    """A Parquet file in batches of at most `num_rows`, with a `Damaged` for each damaged row.

    A damaged row group gives one for each of its remaining rows. Checksums of pages are verified
    if the file has them.

    Raises:
        DataError: it lacks one of the columns.
    """
    try:
        file = parquet.ParquetFile(path, page_checksum_verification=True)
        names, num_groups = file.schema_arrow.names, file.num_row_groups
    except _DAMAGE as error:
        _raise_if_unreadable(error)
        yield Damaged(
            reason="file is damaged", message=f"{path} is not a whole Parquet file: {_cause(error)}"
        )
        return
    with file:
        if missing := set(columns) - set(names):
            raise DataError(
                f"{path} has no column {', '.join(sorted(missing))}: its columns are "
                f"{', '.join(names)}"
            )
        for group in range(num_groups):
            left = file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(
                    num_rows, row_groups=[group], columns=list(columns) or None
                ):
                    left -= batch.num_rows
                    yield batch
            except _DAMAGE as error:
                _raise_if_unreadable(error)
                damaged = Damaged(
                    reason="row group is damaged",
                    message=f"{path}, row group {group} is damaged: {_cause(error)}",
                )
                yield from (damaged for _ in range(max(1, left)))


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[Row | Damaged]:
    first = 0
    for batch in batches(path, columns, num_rows=_ROWS_AT_ONCE):
        if isinstance(batch, Damaged):
            yield batch
            first += 1
            continue
        try:
            yield from batch.to_pylist()
        except ValueError:  # a text is no UTF-8
            yield from _one_by_one(path, batch, first)
        first += batch.num_rows


def _one_by_one(path: Path, batch: pa.RecordBatch, first: int) -> Iterator[Row | Damaged]:
    for number in range(batch.num_rows):
        try:
            yield batch.slice(number, 1).to_pylist()[0]
        except ValueError as error:
            yield Damaged(
                reason="row is damaged",
                message=f"{path}, row {first + number} is damaged: {_cause(error)}",
            )


# --- JSON.


def _json(path: Path) -> Iterator[Row | Damaged]:
    """The rows of one JSON list."""
    try:
        rows = json.loads(_text_of(path))
    except (ValueError, RecursionError, MemoryError) as error:
        yield Damaged(
            reason="file is damaged", message=f"{path} is not a JSON list of rows: {_cause(error)}"
        )
        return
    if not isinstance(rows, list):
        yield Damaged(
            reason="file is damaged",
            message=f"{path} is not a JSON list of rows: it holds {_kind(rows)}",
        )
        return
    for number, row in enumerate(cast(list[object], rows)):
        yield _row(row, f"{path}, entry {number}")


def _text_of(path: Path) -> str:
    if (size := path.stat().st_size) > _MAX_JSON_BYTES:
        raise ValueError(
            f"it has {size:,} bytes, and is read whole up to {_MAX_JSON_BYTES:,} only: write it "
            "as JSON lines"
        )
    return path.read_text("utf-8")


def _json_lines(path: Path) -> Iterator[Row | Damaged]:
    number = 0
    try:
        for number, line in lines(path):
            where = f"{path}, line {number}"
            if line is None:
                yield Damaged(
                    reason="line is damaged",
                    message=f"{where} is longer than {_MAX_LINE_BYTES:,} bytes",
                )
            elif line.strip():
                yield parsed(line, where)
    except _DAMAGE as error:
        _raise_if_unreadable(error)
        yield Damaged(
            reason="file is damaged",
            message=f"{path} is damaged after line {number}: {_cause(error)}",
        )


def parsed(line: bytes, where: str) -> Row | Damaged:
    """The JSON object of a line, or a `Damaged` that says why there is none."""
    try:
        return _row(json.loads(line), where)
    except (ValueError, RecursionError, MemoryError) as error:
        return Damaged(reason="line is damaged", message=f"{where} is not JSON: {_cause(error)}")


def _row(row: object, where: str) -> Row | Damaged:
    if isinstance(row, dict):
        return cast(Row, row)
    return Damaged(
        reason="row is damaged", message=f"{where} is no JSON object: it is {_kind(row)}"
    )


def lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Lines of a file or a `.gz` with their numbers, from 1; None for a line above 16 MiB.

    Raises:
        EOFError, OSError, zlib.error: a `.gz` is damaged.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as stream:
        number = 0
        while line := stream.readline(_MAX_LINE_BYTES):
            number += 1
            if len(line) < _MAX_LINE_BYTES or line.endswith(b"\n"):
                yield number, line
                continue
            while line and not line.endswith(b"\n"):
                line = stream.readline(_MAX_LINE_BYTES)
            yield number, None


def _raise_if_unreadable(error: BaseException) -> None:
    """Raise the system's errors (permissions, a disk's fault): the file itself may be intact."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error


def _cause(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return " ".join(str(error).split())[:_MAX_CAUSE_CHARACTERS] or type(error).__name__


def _kind(value: object) -> str:
    names: dict[type, str] = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "true or false",
        type(None): "null",
    }
    return names.get(type(value), "a number")
