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
"""The stage in the manifest of a data folder."""
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
_VERSION = 3
"""Version of the columns; parts of another version are made again."""
_SHARD_TOKEN_BYTES = 2
_MARK = "made_by_prepare.json"
_OURS = re.compile(
    r"part-\d{6,}\.parquet|tokenizer-[0-9a-f]{12}|(old-)?packed-[0-9a-f]+"
    r"|\.part-\d{6,}\.parquet\.[0-9a-f]{8}\.tmp|" + re.escape(_MARK)
)
"""Names of everything that prepare writes into the folder of the parts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """An example that passed the filters which look at one example at a time."""

    key: bytes
    """8 bytes; examples with equal keys are duplicates (`dedupe`)."""
    example: TokenizedExample
    order: bytes = b""
    """A candidate's sort key among those of its question and verdict (`balance.order_of`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """The result of converting a chunk of a source's rows."""

    source: int
    """The source's index in `data.sources`."""
    num_rows: int
    kept: list[Kept]
    dropped: Counter[str] = field(default_factory=Counter[str])
    """Number of dropped rows by reason."""
    repaired: Counter[str] = field(default_factory=Counter[str])
    """Number of rows by what was repaired in them."""


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
        "repaired": dict(converted.repaired),
    }
    parquet_files.write(path, pa.table(columns, schema=_SCHEMA), label=label)


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
    column = _SCHEMA.names.index("tokens")
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    packed_bytes = _SHARD_TOKEN_BYTES * sum(group.column(column).num_values for group in groups)
    require(
        path.parent,
        [path.stat().st_size] * num_missing + [packed_bytes * num_parts],
        what="the rest of the prepared data",
    )


def is_current(path: Path, *, made_from: str) -> bool:
    """Whether the part exists, is complete, and was made from the same."""
    label = parquet_files.label_of(path) or {}
    return (label.get("version"), label.get("made_from")) == (_VERSION, made_from)


def read(path: Path) -> Converted:
    """Read a part.

    Raises:
        FileNotFoundError: another job has finished and removed it.
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
        repaired=Counter(label["repaired"]),
    )


def _integers(table: pa.Table, name: str) -> Iterable[int]:
    return table.column(name).to_numpy().tolist()
