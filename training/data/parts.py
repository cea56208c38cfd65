"""Converted rows on disk while a folder is being prepared: one Parquet file for each chunk.

    write(path, converted, made_from=label)
    if is_current(path, made_from=label): converted = read(path)

A part is there whole or not at all, so whoever comes next (another life, another job of an
array) goes on with those that are missing. Its label says what made it.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from training.config import ConfigError
from training.data.pack import Mode, TokenizedExample
from training.files import replacing

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
_LABEL = b"tinygsm"
_VERSION = 2
"""Of the columns: parts of another are made anew."""


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


def path_of(folder: Path, number: int) -> Path:
    """Where part `number` is or would be."""
    return folder / f"part-{number:06d}.parquet"


def write(path: Path, converted: Converted, *, made_from: str) -> None:
    """Durably write a part; one without examples is whole too."""
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
    label = {
        "version": _VERSION,
        "made_from": made_from,
        "source": converted.source,
        "num_rows": converted.num_rows,
        "dropped": dict(converted.dropped),
    }
    table = pa.table(columns, schema=_SCHEMA.with_metadata({_LABEL: json.dumps(label)}))
    with replacing(path) as temporary:
        parquet.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def is_current(path: Path, *, made_from: str) -> bool:
    """Whether a whole part is there and made from this."""
    try:
        metadata = parquet.read_schema(path).metadata or {}
        label = json.loads(metadata[_LABEL])
        return (label["version"], label["made_from"]) == (_VERSION, made_from)
    except (OSError, KeyError, ValueError, pa.ArrowInvalid):
        return False


def read(path: Path) -> Converted:
    """What was written there.

    Raises:
        ConfigError: it is damaged since.
    """
    try:
        table = parquet.read_table(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ConfigError(
            f"{path}, a part of an unfinished prepare, is damaged: remove it, and the same command "
            f"makes it again ({error})"
        ) from error
    label = json.loads(table.schema.metadata[_LABEL])
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
