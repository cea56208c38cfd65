"""Converted rows on disk while a folder is being prepared: one Parquet file for each chunk.

    write(path, converted, made_from=label)
    if is_current(path, made_from=label): converted = read(path)

A part is there whole or not at all, so whoever comes next (another life, another job of an
array) goes on with those that are missing. Its label says what made it.

The folder of the parts carries a mark from its first moment. A folder of the same name without
the mark is somebody else's: it is neither written to nor removed.
"""

import os
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from training import manifest
from training.data import parquet_files
from training.data.pack import Mode, TokenizedExample
from training.disk import require
from training.errors import DataError
from training.files import write_json
from training.lifecycle.attempts import parts_folder

STAGE = "prepare"
"""Whose the parts and the data folder are, as its manifest says."""
_SCHEMA = pa.schema(
    [
        ("key", pa.binary(8)),
        ("tokens", pa.list_(pa.uint16())),
        ("num_prompt_tokens", pa.int32()),
        ("prompt_mode", pa.uint8()),
        ("program_mode", pa.uint8()),
        ("order", pa.binary()),
    ]
)
_VERSION = 2
"""Of the columns: parts of another are made anew."""
_SHARD_TOKEN_BYTES = 2
_MARK = "made_by_prepare.json"
_OURS = re.compile(
    r"part-\d{6,}\.parquet|tokenizer-[0-9a-f]{12}|(old-)?packed-[0-9a-f]+"
    r"|\.part-\d{6,}\.parquet\.[0-9a-f]{8}\.tmp|" + re.escape(_MARK)
)
"""All that prepare puts into the folder of the parts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """An example that passed the filters which need no other example."""

    key: bytes
    """8 bytes: examples with equal keys are duplicates."""
    example: TokenizedExample
    order: bytes = b""
    """Of a candidate: its place among those of its question and verdict (`balance.order_of`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """What became of a chunk of a source's rows."""

    source: int
    """The source's index in `data.sources`."""
    num_rows: int
    kept: list[Kept]
    dropped: Counter[str] = field(default_factory=Counter[str])
    """Reason to number of rows."""


def claim(folder: Path) -> None:
    """Make the folder of the parts, unless it is there and marked.

    Raises:
        FileExistsError: something else has its place; names it.
    """
    refuse_others(folder)
    if (folder / _MARK).is_file():
        return
    # Jobs of an array may do this at the same moment: the folder appears with its mark in it.
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
    """Refuse a folder that is there and not prepare's alone.

    Raises:
        FileExistsError: it is no folder, has no mark, or holds something that prepare did not
            write; names it.
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
    """Refuse a data folder that holds what prepare did not write, or parts that it did not.

    Raises:
        FileExistsError: names what is there.
    """
    manifest.refuse_others(folder, stage=STAGE, setting="data.folder")
    refuse_others(parts_folder(folder))


def remove(folder: Path) -> None:
    """Remove what prepare wrote, and the folder when it is empty then; the mark goes last.

    What cannot be removed stays: the data folder does not need it gone.
    """
    if not (folder / _MARK).is_file():
        with suppress(OSError):  # an empty one is of a job that was at work when another ended
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
    """Where part `number` is or would be."""
    return folder / f"part-{number:06d}.parquet"


def write(path: Path, converted: Converted, *, made_from: str) -> None:
    """Durably write a part; one without examples is whole too.

    Raises:
        FileExistsError: as `claim`.
    """
    # Another job that was faster may have removed the folder: it has its mark again before all.
    if not (path.parent / _MARK).is_file():
        claim(path.parent)
    examples = [kept.example for kept in converted.kept]
    tokens = [example.tokens for example in examples]
    offsets = np.cumsum([0, *map(len, tokens)], dtype=np.int32)
    columns = [
        pa.array([kept.key for kept in converted.kept], pa.binary(8)),
        pa.ListArray.from_arrays(offsets, np.concatenate([*tokens, np.array([], np.uint16)])),
        pa.array([example.num_prompt_tokens for example in examples], pa.int32()),
        pa.array([int(example.prompt_mode) for example in examples], pa.uint8()),
        pa.array([int(example.program_mode) for example in examples], pa.uint8()),
        pa.array([kept.order for kept in converted.kept], pa.binary()),
    ]
    label: dict[str, Any] = {
        "version": _VERSION,
        "made_from": made_from,
        "source": converted.source,
        "num_rows": converted.num_rows,
        "dropped": dict(converted.dropped),
    }
    parquet_files.write(path, pa.table(columns, schema=_SCHEMA), label=label)


def require_room(path: Path, *, num_missing: int, num_parts: int) -> None:
    """Check that the rest of a data folder can be written, taking all parts to be like one.

    Args:
        path: That part.
        num_missing: Parts that are still to be written.
        num_parts: All of them, which are packed.

    Raises:
        NoSpace: there is no room.
    """
    metadata = parquet.read_metadata(path)
    column = _SCHEMA.names.index("tokens")
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    packed_bytes = _SHARD_TOKEN_BYTES * sum(group.column(column).num_values for group in groups)
    require(
        path.parent,
        [path.stat().st_size] * num_missing + [packed_bytes * num_parts],
        what="the rest of the prepared data",
    )


def is_current(path: Path, *, made_from: str) -> bool:
    """Whether a whole part is there and made from this."""
    label = parquet_files.label_of(path) or {}
    return (label.get("version"), label.get("made_from")) == (_VERSION, made_from)


def read(path: Path) -> Converted:
    """What was written there.

    Raises:
        FileNotFoundError: it is gone: another job has finished and removed it.
        DataError: it is damaged since.
    """
    try:
        table = parquet.read_table(path, page_checksum_verification=True)
    except FileNotFoundError:  # pyarrow's own, without a number
        raise
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(
            f"{path}, a part of an unfinished prepare, is damaged: remove it, and the same command "
            f"makes it again ({error})"
        ) from error
    label = parquet_files.label_in(table.schema)
    assert label is not None  # `is_current` has read it
    lists = table.column("tokens").combine_chunks()
    values = lists.values.to_numpy(zero_copy_only=False)
    offsets = lists.offsets.to_numpy()
    examples = [
        TokenizedExample(
            tokens=values[start:stop],
            num_prompt_tokens=num_prompt_tokens,
            prompt_mode=Mode(prompt_mode),
            program_mode=Mode(program_mode),
        )
        for (start, stop), num_prompt_tokens, prompt_mode, program_mode in zip(
            pairwise(offsets), *(_integers(table, name) for name in _SCHEMA.names[2:5]), strict=True
        )
    ]
    return Converted(
        source=label["source"],
        num_rows=label["num_rows"],
        kept=[
            Kept(key=key, example=example, order=order)
            for key, example, order in zip(
                table.column("key").to_pylist(),
                examples,
                table.column("order").to_pylist(),
                strict=True,
            )
        ],
        dropped=Counter(label["dropped"]),
    )


def _integers(table: pa.Table, name: str) -> Iterable[int]:
    return table.column(name).to_numpy().tolist()
