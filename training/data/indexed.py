"""Reads megatron-core's indexed format, without importing megatron-core.

    shard = IndexedShard(StoredFile(index_path), StoredFile(tokens_path))
    tokens, lengths, modes = shard.document(17)

The `.bin` file holds the token ids. The `.idx` file holds, in little-endian order:

    9 bytes  "MMIDIDX\\0\\0"
    uint64   version, 1
    uint8    type of a token id: 8 for uint16, 4 for int32
    uint64   number of sequences S
    uint64   number of document borders D + 1
    int32    [S]      tokens of each sequence
    int64    [S]      where each sequence begins in the `.bin` file, in bytes
    int64    [D + 1]  the first sequence of each document, and the end
    int8     [S]      mode of each sequence (multimodal form)

A document is one packed sequence of ours, a sequence one of its segments (training/data/shards.py).

Files are read with `pread` and not mapped into memory. A page fault in a mapped file keeps the
interpreter's lock until the disk answers, so a thread that reads ahead would stop the training
thread; `pread` releases it. A file that was cut is an error, not a SIGBUS, and what was read does
not count as resident memory.
"""

import os
import struct
import weakref
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from training.data.pack import TokenIds
from training.errors import DamagedFileError

_HEADER = struct.Struct("<9sQBQQ")
_MAGIC = b"MMIDIDX\x00\x00"
_VERSION = 1
_DTYPES = {8: np.dtype("<u2"), 4: np.dtype("<i4")}
"""By megatron-core's code: the types of token ids that `prepare` writes (`pack.id_dtype`)."""


class Bytes(Protocol):
    """A file that can be read anywhere; safe to share between threads."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Read exactly `size` bytes from `offset` on.

        Raises:
            DamagedFileError: the file ends before.
        """
        ...


class StoredFile:
    """A file on a disk of this machine, closed when nothing refers to it any more."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            FileNotFoundError: it is not there.
        """
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    @property
    def name(self) -> str:
        """The path."""
        return str(self._path)

    def read(self, offset: int, size: int) -> bytes:
        """Read exactly `size` bytes from `offset` on. Raises as `Bytes.read`."""
        try:
            found = os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise DamagedFileError(f"{self._path} cannot be read: {error.strerror}") from error
        if len(found) != size:
            raise DamagedFileError(
                f"{self._path} is damaged: it ends before byte {offset + size}; prepare the data "
                "again, or restore the file from a copy"
            )
        return found


class IndexedShard:
    """A pair of an `.idx` and a `.bin` file; documents are read when they are asked for."""

    def __init__(self, index: Bytes, tokens: Bytes) -> None:
        """Read the index file's header.

        Raises:
            DamagedFileError: it is no index of uint16 or int32 tokens.
        """
        self._index, self._tokens = index, tokens
        magic, version, dtype, num_segments, num_borders = _HEADER.unpack(
            index.read(0, _HEADER.size)
        )
        if (magic, version) != (_MAGIC, _VERSION) or dtype not in _DTYPES or not num_borders:
            raise DamagedFileError(
                f"{index.name} is damaged: it does not begin as an index of uint16 or int32 "
                "tokens in megatron-core's format"
            )
        self._dtype = _DTYPES[dtype]
        self._num_segments: int = num_segments
        self._lengths_at = _HEADER.size
        self._pointers_at = self._lengths_at + 4 * num_segments
        self._borders_at = self._pointers_at + 8 * num_segments
        self._modes_at = self._borders_at + 8 * num_borders
        self._num_documents: int = num_borders - 1

    def __len__(self) -> int:
        """The number of documents."""
        return self._num_documents

    def document(self, number: int) -> tuple[TokenIds, NDArray[np.int64], NDArray[np.int64]]:
        """Token ids `[tokens]`, and length and mode of each segment `[segments]`.

        Raises:
            DamagedFileError: the index contradicts itself, or a file ends too early.
        """
        first, end = (
            int(border)
            for border in np.frombuffer(
                self._index.read(self._borders_at + 8 * number, 16), dtype="<i8"
            )
        )
        if not 0 <= first < end <= self._num_segments:
            raise self._contradiction(number)
        count = end - first
        lengths = np.frombuffer(
            self._index.read(self._lengths_at + 4 * first, 4 * count), dtype="<i4"
        ).astype(np.int64)
        modes = np.frombuffer(
            self._index.read(self._modes_at + first, count), dtype=np.int8
        ).astype(np.int64)
        start: int = struct.unpack("<q", self._index.read(self._pointers_at + 8 * first, 8))[0]
        if start < 0 or lengths.min() < 0:
            raise self._contradiction(number)
        num_bytes = self._dtype.itemsize * int(lengths.sum())
        tokens = np.frombuffer(self._tokens.read(start, num_bytes), dtype=self._dtype)
        return tokens, lengths, modes

    def _contradiction(self, number: int) -> DamagedFileError:
        return DamagedFileError(
            f"{self._index.name} is damaged: its entry of packed sequence {number} is not "
            "possible; prepare the data again, or restore the file from a copy"
        )
