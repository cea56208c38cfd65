"""Rows as they were read, in chunks that are cheap to send to another process.

    for chunk in chunked(pieces, num_rows=1024):     # one process reads
        for row in chunk.rows(): ...                 # many convert

A piece is what a file gives at once: a record batch of a Parquet file, lines of a JSON-lines file,
or any list. It becomes Python objects where `rows` is called. The borders of the chunks depend on
the rows alone, not on the pieces.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import pyarrow as pa
from typing_extensions import Self

Row = Mapping[str, Any]

_MAX_CAUSE_CHARACTERS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Damaged:
    """Takes the place of a row, or of the rest of a file, that cannot be read."""

    reason: str
    """A short reason, by which damage is counted."""
    message: str
    """A sentence that names the file, and the line or the row group in it."""


class Piece(Protocol):
    """Some rows of one file."""

    def __len__(self) -> int: ...

    def cut(self, start: int, stop: int) -> Self:
        """The rows from `start` to before `stop`."""
        ...

    def rows(self) -> Iterator[Any]:
        """The rows, with a `Damaged` in place of each that cannot be read."""
        ...

    def place(self, index: int) -> str:
        """Where row `index` of the piece stands, for messages."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of a Parquet file."""

    path: str
    first: int
    """Number of its first row in the file."""
    batch: pa.RecordBatch

    def __len__(self) -> int:
        return self.batch.num_rows

    def __reduce__(self) -> tuple[Any, ...]:
        # Arrow's own pickle of a slice holds all that it is a slice of.
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.batch.schema) as writer:
            writer.write_batch(self.batch)
        return _received, (self.path, self.first, sink.getvalue().to_pybytes())

    def cut(self, start: int, stop: int) -> "Batch":
        """The rows from `start` to before `stop`."""
        return Batch(self.path, self.first + start, self.batch.slice(start, stop - start))

    def rows(self) -> Iterator[Row | Damaged]:
        """The rows, with a `Damaged` in place of each that holds a text which is not UTF-8."""
        try:
            yield from self.batch.to_pylist()
        except ValueError:
            yield from map(self._row, range(len(self)))

    def place(self, index: int) -> str:
        """Where row `index` of the piece stands, for messages."""
        return f"{self.path}, row {self.first + index}"

    def _row(self, number: int) -> Row | Damaged:
        try:
            return self.batch.slice(number, 1).to_pylist()[0]
        except ValueError as error:
            return Damaged(
                reason="row is damaged",
                message=f"{self.place(number)} is damaged: {cause(error)}",
            )


def _received(path: str, first: int, content: bytes) -> Batch:
    return Batch(path, first, pa.ipc.open_stream(content).read_next_batch())


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of a JSON-lines file."""

    path: str
    lines: Sequence[tuple[int, bytes | Damaged]]
    """Each with its number in the file, from 1."""

    def __len__(self) -> int:
        return len(self.lines)

    def cut(self, start: int, stop: int) -> "Lines":
        """The lines from `start` to before `stop`."""
        return Lines(self.path, self.lines[start:stop])

    def rows(self) -> Iterator[Row | Damaged]:
        """The rows, with a `Damaged` in place of each line that is not a JSON object."""
        for index, (_, line) in enumerate(self.lines):
            if isinstance(line, Damaged):
                yield line
            else:
                yield parsed(line, self.place(index))

    def place(self, index: int) -> str:
        """Where row `index` of the piece stands, for messages."""
        return f"{self.path}, line {self.lines[index][0]}"


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that are Python objects already."""

    entries: Sequence[Any]
    path: str = ""
    """What messages call the file; empty: they name no entry."""
    first: int = 0
    """Number of the first entry in the file."""

    def __len__(self) -> int:
        return len(self.entries)

    def cut(self, start: int, stop: int) -> "Rows":
        """The rows from `start` to before `stop`."""
        return Rows(self.entries[start:stop], self.path, self.first + start)

    def rows(self) -> Iterator[Any]:
        """The rows."""
        return iter(self.entries)

    def place(self, index: int) -> str:
        """Where row `index` of the piece stands, for messages."""
        return f"{self.path}, entry {self.first + index}"


@dataclass(frozen=True, slots=True)
class RawChunk:
    """Some consecutive rows of a source, which may come from several files."""

    pieces: tuple[Piece, ...] = ()

    def __len__(self) -> int:
        return sum(map(len, self.pieces))

    def rows(self) -> Iterator[Any]:
        """The rows, with a `Damaged` in place of each that cannot be read."""
        for piece in self.pieces:
            yield from piece.rows()


def chunked(pieces: Iterable[Piece], *, num_rows: int, most: int = 0) -> Iterator[RawChunk]:
    """Chunks of `num_rows` rows, the last one shorter.

    Args:
        pieces: The rows.
        num_rows: Rows of a chunk.
        most: Rows of all chunks; 0: all there are.
    """
    found: list[Piece] = []
    room, left = num_rows, most
    for piece in pieces:
        start, stop = 0, min(len(piece), left) if most else len(piece)
        left -= stop
        while start < stop:
            part = piece.cut(start, min(stop, start + room))
            found.append(part)
            start, room = start + len(part), room - len(part)
            if not room:
                yield RawChunk(tuple(found))
                found, room = [], num_rows
        if most and not left:
            break
    if found:
        yield RawChunk(tuple(found))


def parsed(line: bytes, where: str) -> Row | Damaged:
    """The JSON object of a line, or a `Damaged` that says why there is none."""
    try:
        return checked(json.loads(line), where)
    except (ValueError, RecursionError, MemoryError) as error:
        return Damaged(reason="line is damaged", message=f"{where} is not JSON: {cause(error)}")


def checked(row: object, where: str) -> Row | Damaged:
    """A value of a JSON file as a row, or a `Damaged` if it is no object."""
    if isinstance(row, dict):
        return cast(Row, row)
    return Damaged(reason="row is damaged", message=f"{where} is no JSON object: it is {kind(row)}")


def cause(error: BaseException) -> str:
    """An error's message in one line, for a message of ours."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return " ".join(str(error).split())[:_MAX_CAUSE_CHARACTERS] or type(error).__name__


def kind(value: object) -> str:
    """A JSON value's type, in JSON's words."""
    names: dict[type, str] = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "true or false",
        type(None): "null",
    }
    return names.get(type(value), "a number")
