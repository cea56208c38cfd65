"""Stores converted rows while a data folder is being prepared: a Parquet file for each chunk.

    write(path, converted, made_from=label)
    if is_current(path, made_from=label): converted = read(path)

A part is complete or absent, so a later attempt or another array task makes only the missing
ones. Its label identifies what it was made from.

The folder of the parts contains a marker file from the moment it exists. A folder of the same
name without that file is not prepare's and is neither written to nor removed.
"""

import os
import re
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from training import manifest
from training.data import parquet_files
from training.data.filter_counts import FilterCounts
from training.data.pack import Examples
from training.disk import require
from training.errors import DataError
from training.files import write_json
from training.lifecycle.attempts import parts_folder

STAGE = "prepare"
"""The stage in the manifest of a data folder."""
_KEYS = "keys"
_VERSION = 5
"""Version of the columns; parts of another version are made again."""
_TOKEN_BYTES = "token_bytes"
"""In a part's label: the size of a token id; absent: 2."""
_STORED = {2: "<u2", 4: "<i4"}
"""By that size: how ids are stored (`pack.id_dtype`)."""
_MARK = "made_by_prepare.json"
_OURS = re.compile(
    r"part-\d{6,}\.parquet|tokenizer-[0-9a-f]{12}|(old-)?packed-[0-9a-f]+"
    r"|\.part-\d{6,}\.parquet\.[0-9a-f]{8}\.tmp|" + re.escape(_MARK)
)
"""Names of everything that prepare writes into the folder of the parts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """What is known of a part without its tokens."""

    source: int
    """The source's index in `data.sources`."""
    num_rows: int
    """Rows of the source that it was made from."""
    keys: NDArray[np.uint64]
    """`[examples, columns]`; examples with an equal key in one column are duplicates (`dedupe`)."""
    filters: FilterCounts = field(default_factory=FilterCounts)
    """What was dropped and repaired."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """The result of converting a chunk of a source's rows, without those that were dropped."""

    head: Head
    examples: Examples
    order: NDArray[np.uint64]
    """`[examples]`, for `balance`: each candidate's `order_of`; 0 in other sources."""


def claim(folder: Path) -> None:
    """Make the folder of the parts with its marker file, unless it exists.

    Raises:
        FileExistsError: something else has its name.
    """
    refuse_others(folder)
    if (folder / _MARK).is_file():
        return
    # Array tasks may do this at the same moment: the folder appears with its marker in it.
    made = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    write_json(made / _MARK, {"content": "parts of a data folder that is being prepared"})
    try:
        os.rename(made, folder)  # over an empty folder at most
    except OSError:
        shutil.rmtree(made)
        refuse_others(folder)
        if not (folder / _MARK).is_file():
            raise


def refuse_others(folder: Path) -> None:
    """Refuse a folder of parts that exists and is not prepare's alone.

    Raises:
        FileExistsError: it is not a folder, has no marker, or holds something that prepare did
            not write; the message names it.
    """
    advice = "prepare keeps its parts there: move it away, or set another data.folder"
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise FileExistsError(f"{folder} is not a folder, and {advice}")
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    others = [name for name in found if not _OURS.fullmatch(name)]
    if others or (found and _MARK not in found):
        raise FileExistsError(
            f"{folder} holds {(others or found)[0]}, which prepare did not write, and {advice}"
        )


def refuse_data(folder: Path) -> None:
    """Refuse a data folder, or its folder of parts, that holds what prepare did not write.

    Raises:
        FileExistsError: the message names what prepare did not write.
    """
    manifest.refuse_others(folder, stage=STAGE, setting="data.folder")
    refuse_others(parts_folder(folder))


def remove(folder: Path) -> None:
    """Remove what prepare wrote, the marker last, and the folder if it is empty then.

    Errors are ignored: leftovers do not affect the data folder.
    """
    if not (folder / _MARK).is_file():
        with suppress(OSError):  # a job at work when another one ended leaves an empty folder
            folder.rmdir()
        return
    for path in [path for path in folder.iterdir() if _OURS.fullmatch(path.name)]:
        if path.name.startswith("old-"):
            manifest.remove(path, stage=STAGE)  # the data folder that was replaced
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != _MARK:
            with suppress(OSError):
                path.unlink()
    if not [path for path in folder.iterdir() if path.name != _MARK]:
        shutil.rmtree(folder, ignore_errors=True)


def path_of(folder: Path, number: int) -> Path:
    """The file of part `number`, whether or not it exists."""
    return folder / f"part-{number:06d}.parquet"


def write(path: Path, converted: Converted, *, made_from: str) -> None:
    """Durably write a part, which may hold no examples.

    Raises:
        FileExistsError: as `claim`.
    """
    # A faster job may have removed the folder: then make it again, with its marker.
    if not (path.parent / _MARK).is_file():
        claim(path.parent)
    head, examples = converted.head, converted.examples
    token_bytes = examples.tokens.itemsize
    columns = {
        _KEYS: _fixed(head.keys.astype("<u8")),
        "tokens": _variable(examples.tokens.astype(_STORED[token_bytes]), examples.num_tokens),
        "num_prompt_tokens": pa.array(examples.lengths[:, 0]),
        "modes": _fixed(examples.modes),
        "order": pa.array(converted.order),
    }
    label: dict[str, Any] = {
        "version": _VERSION,
        "made_from": made_from,
        "source": head.source,
        "num_rows": head.num_rows,
        "key_columns": head.keys.shape[1],
        "filters": head.filters.to_json(),
    }
    if token_bytes != 2:
        label[_TOKEN_BYTES] = token_bytes
    parquet_files.write(path, pa.table(columns), label=label)


def _fixed(rows: NDArray[Any]) -> pa.Array:
    """A column of the bytes of each row of `[rows, values]`."""
    width = rows.shape[1] * rows.itemsize
    data = pa.py_buffer(np.ascontiguousarray(rows))
    return pa.Array.from_buffers(pa.binary(width), len(rows), [None, data])


def _variable(values: NDArray[Any], num_values: NDArray[np.int64]) -> pa.Array:
    """A column of bytes: the first `num_values[0]` values, then the next `num_values[1]` …"""
    offsets = np.zeros(len(num_values) + 1, np.int32)
    np.cumsum(num_values * values.itemsize, out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(pa.binary(), len(num_values), buffers)


def require_room(path: Path, *, num_missing: int, num_parts: int) -> None:
    """Check that the disk has room for the remaining parts and the shards.

    Args:
        path: A part; all others are assumed to be as large.
        num_missing: Number of parts that are still to be written.
        num_parts: Number of all parts, from which the shards are packed.

    Raises:
        NoSpace: there is not enough room.
    """
    metadata = parquet.read_metadata(path)
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    # All columns without compression are a little more than the tokens and the keys.
    packed_bytes = sum(group.total_byte_size for group in groups)
    require(
        path.parent,
        [path.stat().st_size] * num_missing + [packed_bytes * num_parts],
        what="the rest of the prepared data",
    )


def is_current(path: Path, *, made_from: str) -> bool:
    """Whether the part exists, is complete, and was made from the same."""
    label = parquet_files.label_of(path) or {}
    return (label.get("version"), label.get("made_from")) == (_VERSION, made_from)


def read_head(path: Path) -> Head:
    """Read a part without its tokens; raises as `read`."""
    return _head(_table(path, [_KEYS]))


def read(path: Path) -> Converted:
    """Read a part.

    Raises:
        FileNotFoundError: another job has finished and removed it.
        DataError: it is damaged since.
    """
    table = _table(path)
    prompts = table.column("num_prompt_tokens").to_numpy()
    label = parquet_files.label_in(table.schema) or {}
    tokens, num_tokens = _variable_of(table, "tokens", _STORED[label.get(_TOKEN_BYTES, 2)])
    return Converted(
        head=_head(table),
        examples=Examples(
            tokens=tokens.astype(tokens.dtype.newbyteorder("="), copy=False),
            lengths=np.stack([prompts, num_tokens - prompts], axis=1),
            modes=_fixed_of(table, "modes", "<u1", 2),
        ),
        order=table.column("order").to_numpy(),
    )


def _table(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        return parquet.read_table(path, columns=columns, page_checksum_verification=True)
    except FileNotFoundError:  # pyarrow's own, without a number
        raise
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(
            f"{path}, a part of an unfinished prepare, is damaged: remove it, and the same command "
            f"makes it again ({error})"
        ) from error


def _head(table: pa.Table) -> Head:
    label = parquet_files.label_in(table.schema)
    assert label is not None  # `is_current` has read it
    return Head(
        source=label["source"],
        num_rows=label["num_rows"],
        keys=_fixed_of(table, _KEYS, "<u8", label["key_columns"]),
        filters=FilterCounts.from_json(label["filters"]),
    )


def _fixed_of(table: pa.Table, name: str, dtype: str, num_values: int) -> NDArray[Any]:
    """`[rows, values]`, as `_fixed` took them."""
    column = table.column(name).combine_chunks()
    data = column.buffers()[1]
    values = np.frombuffer(data if data is not None else b"", dtype)
    start = column.offset * num_values
    return values[start : start + len(column) * num_values].reshape(-1, num_values)


def _variable_of(table: pa.Table, name: str, dtype: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The values, and their number in each row, as `_variable` took them."""
    column = table.column(name).combine_chunks()
    _, offset_data, data = column.buffers()
    ends = np.frombuffer(offset_data if offset_data is not None else b"", np.int32)
    ends = ends[column.offset : column.offset + len(column) + 1].astype(np.int64)
    ends //= np.dtype(dtype).itemsize
    values = np.frombuffer(data if data is not None else b"", dtype)
    return values[ends[0] : ends[-1]] if len(ends) else values[:0], np.diff(ends)
