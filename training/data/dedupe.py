"""Finds duplicates: examples that an earlier row or an earlier source has given already.

    with Deduplicator(folder, for_verifier=False) as deduplicator:
        deduplicator.add(keys)                      # of each part, in order
        marks = deduplicator.mark(num_examples)     # of the next source: 0 stays

A generator learns each question once. A verifier learns each program of a question once. The
first occurrence stays, so the result depends on the order of the sources and of their rows
alone. Texts are compared by 8-byte keys: among TinyGSM's 11 million questions, the chance that two
different ones have the same key is about 3 in a million.

Keys are stored on disk, a file for each of their columns. Columns are compared one after the
other, and of each one those rows together whose keys start with the same bits. Memory holds 2
bytes per example and 100 MB, whatever the number of columns.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from training.data import reasons

_KEY_BYTES = 8
_GROUP_ROWS = 1 << 20
"""Rows whose keys are sorted together, on average."""
_BLOCK_ROWS = 1 << 20
"""Rows that are read together."""


class Deduplicator:
    """The keys of all examples, over all sources, and which of them are taken."""

    def __init__(self, folder: Path, *, for_verifier: bool) -> None:
        """Start without keys.

        Args:
            folder: A folder for the keys, made here and removed at the end.
            for_verifier: Whether the examples are programs of candidates.
        """
        repeated = reasons.DUPLICATE_PROGRAM if for_verifier else reasons.DUPLICATE
        self.reasons = ("", repeated, reasons.NEAR_DUPLICATE)
        """By mark: why an example is dropped."""
        self._folder = folder
        self._columns: list[BinaryIO] = []
        self._open_files = ExitStack()
        self._is_taken = np.zeros(0, np.bool_)
        """Of each example decided on: whether it stays, so that no later one may have its keys."""

    def __enter__(self) -> "Deduplicator":
        self._folder.mkdir(parents=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._open_files.close()
        shutil.rmtree(self._folder)

    def add(self, keys: NDArray[np.uint64]) -> None:
        """Append the keys of more examples, `[examples, columns]`.

        Equal keys in the first column are of equal texts, in any other one of similar texts.
        """
        if not len(keys):
            return  # the number of columns is not known
        for number in range(len(self._columns), keys.shape[1]):
            file = (self._folder / f"column-{number}").open("w+b")
            self._columns.append(self._open_files.enter_context(file))
        for file, column in zip(self._columns, keys.T, strict=True):
            file.write(column.astype("<u8").tobytes())

    def mark(self, num_examples: int) -> NDArray[np.uint8]:
        """Decide on the next examples that were added: those of one source.

        Args:
            num_examples: Number of examples of the source.

        Returns:
            `[examples]`, the index of each one's reason in `reasons`. A key is a repetition if an
            earlier example of this source has it, or one that stays of an earlier source.
        """
        start = len(self._is_taken)
        marks = np.zeros(num_examples, np.uint8)
        are_compared = np.concatenate([self._is_taken, np.ones(num_examples, np.bool_)])
        for number, file in enumerate(self._columns):
            for rows in _repetitions(file, are_compared):
                new = rows[rows >= start] - start
                marks[new[marks[new] == 0]] = 1 if number == 0 else 2
        self._is_taken = np.concatenate([self._is_taken, marks == 0])
        return marks

    def forget(self, rows: NDArray[np.int64], *, num_examples: int) -> None:
        """Let later sources give examples that a later filter has dropped.

        Args:
            rows: Their indices among the examples of the source that was marked last.
            num_examples: Number of examples of that source.
        """
        self._is_taken[len(self._is_taken) - num_examples + rows] = False


def _repetitions(file: BinaryIO, are_compared: NDArray[np.bool_]) -> Iterator[NDArray[np.int64]]:
    """The rows, among those compared, whose key an earlier one of them has; in several groups."""
    num_groups = 1 << max(1, (int(are_compared.sum()) // _GROUP_ROWS).bit_length())
    shift = np.uint64(64 - (num_groups - 1).bit_length())
    for group in range(num_groups):
        found: list[tuple[NDArray[np.int64], NDArray[np.uint64]]] = []
        for start, block in _blocks(file, len(are_compared)):
            is_in_group = (block >> shift) == group
            is_in_group &= are_compared[start : start + len(block)]
            rows = np.flatnonzero(is_in_group)
            found.append((rows + start, block[rows]))
        if found:
            rows, keys = (np.concatenate(column) for column in zip(*found, strict=True))
            yield _after_the_first(rows, keys)


def _after_the_first(rows: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Of each key all of its rows but the first."""
    order = np.argsort(keys)  # not stable, which would take four times as long
    rows, keys = rows[order], keys[order]
    is_new = np.ones(len(keys), np.bool_)
    is_new[1:] = keys[1:] != keys[:-1]
    starts = np.flatnonzero(is_new)
    if not len(starts):
        return rows
    firsts = np.minimum.reduceat(rows, starts)
    return rows[rows != np.repeat(firsts, np.diff(np.append(starts, len(rows))))]


def _blocks(file: BinaryIO, num_rows: int) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """The first rows of a column, and the number of the first row of each block."""
    file.flush()
    for start in range(0, num_rows, _BLOCK_ROWS):
        file.seek(start * _KEY_BYTES)
        count = min(_BLOCK_ROWS, num_rows - start)
        yield start, np.frombuffer(file.read(count * _KEY_BYTES), "<u8")
    file.seek(0, 2)  # to append
