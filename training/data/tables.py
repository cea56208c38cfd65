"""Reads rows of JSON, JSON-lines and Parquet files as dictionaries, one after the other.

The meaning of the columns is not known here, nor where the files are: `chosen` picks those of one
split from the names of a folder's files, sorted by name.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import cast

import pyarrow as pa
import pyarrow.parquet as parquet

from training.data.chunks import Batch, Damaged, Lines, Piece, Row, Rows, cause, checked, kind
from training.errors import DataError

PARQUET = (".parquet",)
JSON = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
"""A `.json.gz` is read as JSON lines."""
_SPLITS = ("train", "test", "validation")
_NUMBERED = re.compile(r"(.+)-(\d{5,})-of-(\d{5,})")
_ROWS_AT_ONCE = 4096
_MAX_LINE_BYTES = 1 << 24
"""A longer line counts as damaged: no question with its program has 16 MiB."""
_MAX_JSON_BYTES = 1 << 28
_DAMAGE = (pa.ArrowException, OSError, EOFError, zlib.error, ValueError, MemoryError)
"""Errors that readers raise on damaged content; `_raise_if_unreadable` lets others through."""


def chosen(
    names: Sequence[str],
    *,
    what: str,
    split: str,
    endings: tuple[str, ...] = PARQUET + JSON,
) -> list[str]:
    """The table files of a folder that hold one split, sorted, with one of `endings`.

    The first ending that has any files counts (Parquet, then JSON lines, then JSON). Of those, the
    first of these groups that is not empty: files named exactly for the split (`test.jsonl`),
    numbered ones (`main/test-00000-of-00002.parquet`), files in folders named for the split, a
    single variant (`test_socratic.jsonl`), or all files, if none is named for a split.

    Args:
        names: Paths of all files, relative to the folder.
        what: The setting and its value, for messages.
        split: The split.
        endings: The endings that are read.

    Raises:
        DataError: there are none, there are several variants, or one of a numbered set is missing.
    """
    paths = sorted(map(PurePosixPath, names))
    # Not `train_1M-00000-of-00003`, which is of a split of its own.
    numbered = re.compile(rf"{re.escape(split)}[-_.]\d+(?![0-9A-Za-z])")
    for ending in endings:
        found = [path for path in paths if path.name.endswith(ending)]
        named = (
            [path for path in found if path.name == split + ending]
            or [path for path in found if numbered.match(path.name)]
            or [path for path in found if split in path.parts[:-1]]
        )
        variants = [path for path in found if _is_named_for(path.name, split)]
        if not named and len(variants) > 1:
            raise DataError(
                f"{what} holds no {split}{ending}, but "
                f"{', '.join(path.name for path in variants)}: name one of them"
            )
        named = named or variants
        if not named and not any(_split_of(path.name) for path in found):
            named = found
        if named:
            _refuse_missing(named, what)
            return list(map(str, named))
    raise DataError(
        f"{what} holds no {split} split: expected {split}{endings[0]}, "
        f"{split}-*{endings[0]} or other files ending in {', '.join(endings)}"
    )


def _refuse_missing(paths: Sequence[PurePosixPath], what: str) -> None:
    """Refuse numbered sets of which a file is missing: `train-00001-of-00003.parquet`."""
    numbers: dict[tuple[str, str], set[int]] = {}
    for path in paths:
        if named := _NUMBERED.match(str(path)):
            numbers.setdefault((named[1], named[3]), set()).add(int(named[2]))
    for (name, total), found in numbers.items():
        if missing := sorted(set(range(int(total))) - found):
            others = f" and {len(missing) - 1} more are" if len(missing) > 1 else " is"
            raise DataError(
                f"{what} holds {len(found)} of {int(total)} files: "
                f"{name}-{missing[0]:0{len(total)}d}-of-{total}{others} missing. Fetch the whole "
                "set, or name a single file"
            )


def refuse_unfit(
    name: str, *, what: str, split: str, endings: tuple[str, ...] = PARQUET + JSON
) -> None:
    """Refuse a single file of another ending, or one that is named for another split.

    Raises:
        DataError: it is one of these.
    """
    if not name.endswith(endings):
        raise DataError(
            f"{what} does not end in {' or '.join(endings)}: set the kind of this file, or rename "
            "it"
        )
    named = _split_of(name)
    if named not in ("", split) and not _is_named_for(name, split):
        raise DataError(
            f"{what} is named for the {named} split, but split = {split!r}: set split = "
            f"{named!r}, or the path of {split} data"
        )


def _is_named_for(name: str, split: str) -> bool:
    return re.match(rf"{re.escape(split)}[-_.]", name) is not None


def _split_of(name: str) -> str:
    """The common split that a file is named for; empty if it is named for none."""
    return next((split for split in _SPLITS if _is_named_for(name, split)), "")


def rows_of(
    files: Sequence[Path], columns: Sequence[str] = (), *, shown: str = ""
) -> Iterator[Row]:
    """The rows of these files in order; of a Parquet file only `columns`, if given.

    Args:
        files: The files.
        columns: Of a Parquet file, the columns to read; all if there are none.
        shown: What messages call the files; their paths if empty.

    Raises:
        DataError: a file or a row of it cannot be read; the message names both.
    """
    for row in rows_or_damage(files, columns, shown=shown):
        if isinstance(row, Damaged):
            raise DataError(row.message)
        yield row


def rows_or_damage(
    files: Sequence[Path], columns: Sequence[str] = (), *, shown: str = ""
) -> Iterator[Row | Damaged]:
    """As `rows_of`, with a `Damaged` in place of each row or rest of a file that is damaged.

    Raises:
        DataError: a Parquet file has other columns.
    """
    for path in files:
        for piece in pieces(path, columns, shown=shown):
            yield from piece.rows()


def pieces(path: Path, columns: Sequence[str] = (), *, shown: str = "") -> Iterator[Piece]:
    """The rows of a file in order, as it is read.

    Args:
        path: The file.
        columns: Of a Parquet file, the columns to read; all if there are none.
        shown: What messages call the file; its path if empty.

    Raises:
        DataError: a Parquet file has other columns.
    """
    shown = shown or str(path)
    if path.suffix == ".parquet":
        return _parquet(path, columns, shown)
    return _json(path, shown) if path.suffix == ".json" else _json_lines(path, shown)


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


def damage_of(path: Path, columns: Sequence[str]) -> Damaged | None:
    """The damage of a Parquet file as far as its footer shows it; None: it shows none.

    Raises:
        DataError: it lacks one of the columns.
    """
    try:
        metadata = parquet.read_metadata(path)
        names = metadata.schema.to_arrow_schema().names
    except _DAMAGE as error:
        return _no_parquet(str(path), error)
    _refuse_lacking(str(path), columns, names)
    return None if metadata.num_rows else empty(str(path))


def _no_parquet(shown: str, error: BaseException) -> Damaged:
    _raise_if_unreadable(error)
    message = f"{shown} is not a whole Parquet file: {cause(error)}"
    return Damaged(reason="file is damaged", message=message)


def empty(shown: str) -> Damaged:
    """Stands for a file without rows, where one is damage."""
    what = "a Parquet file" if shown.endswith(PARQUET) else "a file"
    return Damaged(reason="file is empty", message=f"{shown} is {what} without rows")


def _refuse_lacking(shown: str, columns: Sequence[str], names: Sequence[str]) -> None:
    if missing := sorted(set(columns) - set(names)):
        raise DataError(
            f"{shown} has no column {', '.join(missing)}: its columns are {', '.join(names)}"
        )


def batches(
    path: Path, columns: Sequence[str], *, num_rows: int, shown: str = ""
) -> Iterator[pa.RecordBatch | Damaged]:
    """A Parquet file in batches of at most `num_rows`, with a `Damaged` for each damaged row.

    A damaged row group gives one for each of its remaining rows. Checksums of pages are verified
    if the file has them.

    Raises:
        DataError: it lacks one of the columns.
    """
    shown = shown or str(path)
    try:
        file = parquet.ParquetFile(path, page_checksum_verification=True)
        names, num_groups = file.schema_arrow.names, file.num_row_groups
    except _DAMAGE as error:
        yield _no_parquet(shown, error)
        return
    with file:
        _refuse_lacking(shown, columns, names)
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
                    message=f"{shown}, row group {group} is damaged: {cause(error)}",
                )
                yield from (damaged for _ in range(max(1, left)))


def _parquet(path: Path, columns: Sequence[str], shown: str) -> Iterator[Batch | Rows]:
    first = 0
    for batch in batches(path, columns, num_rows=_ROWS_AT_ONCE, shown=shown):
        piece = Rows([batch]) if isinstance(batch, Damaged) else Batch(shown, first, batch)
        first += len(piece)
        yield piece


# --- JSON.


def _json(path: Path, shown: str) -> Iterator[Rows]:
    """The rows of one JSON list."""
    try:
        rows = json.loads(_text_of(path))
        fault = "" if isinstance(rows, list) else f"it holds {kind(rows)}"
    except (ValueError, RecursionError, MemoryError) as error:
        rows, fault = None, cause(error)
    if fault:
        message = f"{shown} is not a JSON list of rows: {fault}"
        yield Rows([Damaged(reason="file is damaged", message=message)])
        return
    listed = enumerate(cast(list[object], rows))
    yield Rows([checked(row, f"{shown}, entry {number}") for number, row in listed], shown)


def _text_of(path: Path) -> str:
    if (size := path.stat().st_size) > _MAX_JSON_BYTES:
        raise ValueError(
            f"it has {size:,} bytes, and is read whole up to {_MAX_JSON_BYTES:,} only: write it "
            "as JSON lines"
        )
    return path.read_text("utf-8")


def _json_lines(path: Path, shown: str) -> Iterator[Lines]:
    numbered = _lines_or_damage(path, shown)
    while found := list(islice(numbered, _ROWS_AT_ONCE)):
        yield Lines(shown, found)


def _lines_or_damage(path: Path, shown: str) -> Iterator[tuple[int, bytes | Damaged]]:
    """The lines that are not blank, with their numbers."""
    number = 0
    try:
        for number, line in lines(path):
            if line is None:
                message = f"{shown}, line {number} is longer than {_MAX_LINE_BYTES:,} bytes"
                yield number, Damaged(reason="line is damaged", message=message)
            elif line.strip():
                yield number, line
    except _DAMAGE as error:
        _raise_if_unreadable(error)
        message = f"{shown} is damaged after line {number}: {cause(error)}"
        yield number, Damaged(reason="file is damaged", message=message)


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
