"""Rows of JSON, JSON-lines and Parquet files as dictionaries, read while they are used.

Knows nothing of what the columns mean. A folder stands for the files of one split in it,
in the order of their names.
"""

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from training.config import ConfigError

Row = Mapping[str, Any]

_ENDINGS = (".parquet", ".jsonl", ".jsonl.gz", ".json")
_SPLITS = ("train", "test", "validation")
_ROWS_AT_ONCE = 4096


def files_at(path: Path, *, split: str, setting: str) -> list[Path]:
    """The table files that `path` stands for: itself, or a folder's.

    Of a folder, Parquet before JSON lines before JSON. Of each the files named exactly for
    the split (`test.jsonl`), else its numbered ones (`main/test-00000-of-00002.parquet`), else
    those in folders named for it, else the one variant there is (`test_socratic.jsonl`), else
    all files, where none is named for any split.

    Raises:
        ConfigError: there are none, there are several variants, or `path` is a file that is
            named for another split.
    """
    if path.is_file():
        named = _split_of(path.name)
        if named not in ("", split) and not _is_named_for(path.name, split):
            raise ConfigError(
                f"{setting} = {str(path)!r} is named for the {named} split, but split = {split!r}: "
                f"set split = {named!r}, or the path of {split} data"
            )
        return [path]
    for ending in _ENDINGS:
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
            raise ConfigError(
                f"{setting} = {str(path)!r} holds no {split}{ending}, but "
                f"{', '.join(file.name for file in variants)}: name one of them"
            )
        if variants:
            return variants
        if found and not any(_split_of(file.name) for file in found):
            return found
    raise ConfigError(
        f"{setting} = {str(path)!r} holds no {split} split: expected {split}.jsonl, "
        f"{split}-*.parquet or other files ending in {', '.join(_ENDINGS)}"
    )


def _is_named_for(name: str, split: str) -> bool:
    return re.match(rf"{re.escape(split)}[-_.]", name) is not None


def _split_of(name: str) -> str:
    """The common split that a file is named for; empty: none."""
    return next((split for split in _SPLITS if _is_named_for(name, split)), "")


def rows_of(files: Sequence[Path], columns: Sequence[str] = ()) -> Iterator[Row]:
    """The rows of these files in order; of a Parquet file only `columns`, where given.

    Raises:
        ConfigError: a file or a line of it cannot be read; the message names it.
    """
    for path in files:
        yield from _parquet(path, columns) if path.suffix == ".parquet" else _json(path)


def num_rows(files: Sequence[Path]) -> int:
    """How many rows there are, without reading more than needed to tell."""
    return sum(
        parquet.read_metadata(path).num_rows if path.suffix == ".parquet" else _num_lines(path)
        for path in files
    )


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    try:
        with parquet.ParquetFile(path) as file:
            missing = set(columns) - set(file.schema_arrow.names)
            if missing:
                raise ConfigError(
                    f"{path} has no column {', '.join(sorted(missing))}: its columns are "
                    f"{', '.join(file.schema_arrow.names)}"
                )
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=list(columns) or None):
                yield from batch.to_pylist()
    except pa.ArrowInvalid as error:
        raise ConfigError(f"{path} is not a whole Parquet file: {error}") from error


def _json(path: Path) -> Iterator[Row]:
    if path.suffix == ".json":
        try:
            yield from json.loads(path.read_text("utf-8"))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{path} is not a JSON list of rows: {error}") from error
        return
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ConfigError(f"{path}, line {number} is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise ConfigError(f"{path}, line {number} is no JSON object")
            yield row


def _num_lines(path: Path) -> int:
    if path.suffix == ".json":
        return sum(1 for _ in _json(path))
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as stream:
        return sum(1 for line in stream if line.strip())
