"""Selects the examples of all parts that are packed: no duplicates, and balanced where asked for.

    with remaining(data, paths, counts, keys=folder) as sources:
        for examples in sources:            # of each source a stream of `Examples`
            ...

The parts are read twice: their keys as they are made, their tokens once all keys are known.
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.config import DataConfig
from training.data import parts
from training.data.balance import balanced
from training.data.counts import Counts
from training.data.dedupe import Deduplicator
from training.data.pack import WINDOW_EXAMPLES, Examples


@contextmanager
def remaining(
    data: DataConfig, converted: Iterable[Path], counts: Counts, *, keys: Path
) -> Generator[list[Iterator[Examples]]]:
    """The examples to pack: a stream for each source, to be read to its end before the next.

    Args:
        data: The sources.
        converted: The parts, all of the first source, then all of the next.
        counts: Counts everything on the way.
        keys: A folder for the keys, which exists meanwhile.
    """
    paths: list[list[Path]] = [[] for _ in data.sources]
    num_examples = [0 for _ in data.sources]
    with Deduplicator(keys, for_verifier=data.is_for_verifier) as deduplicator:
        for path in converted:
            head = parts.read_head(path)
            counts.read(head)
            deduplicator.add(head.keys)
            paths[head.source].append(path)
            num_examples[head.source] += len(head.keys)

        def of_source(source: int) -> Iterator[Examples]:
            marks = deduplicator.mark(num_examples[source])
            distinct = _distinct(source, paths[source], marks, counts, deduplicator)
            if data.sources[source].balance == "question":
                found = _balanced(source, distinct, marks, counts, deduplicator)
            else:
                found = (examples for examples, _ in distinct)
            for examples in found:
                counts.add(source, examples)
                yield examples

        yield [of_source(source) for source in range(len(data.sources))]


def _distinct(
    source: int,
    paths: Iterable[Path],
    marks: NDArray[np.uint8],
    counts: Counts,
    deduplicator: Deduplicator,
) -> Iterator[tuple[Examples, NDArray[np.uint64]]]:
    """The examples that stay of each part, and their order."""
    start = 0
    for path in paths:
        part = parts.read(path)
        of_part = marks[start : start + len(part.examples)]
        start += len(of_part)
        for mark in (1, 2):
            counts.drop(source, deduplicator.reasons[mark], part.examples.where(of_part == mark))
        yield part.examples.where(of_part == 0), part.order[of_part == 0]


def _balanced(
    source: int,
    distinct: Iterable[tuple[Examples, NDArray[np.uint64]]],
    marks: NDArray[np.uint8],
    counts: Counts,
    deduplicator: Deduplicator,
) -> Iterator[Examples]:
    """The examples of a source that are left by `balance`; all are held in memory."""
    found = list(distinct)
    if not found:
        return
    examples = Examples.concatenate([examples for examples, _ in found])
    order = np.concatenate([order for _, order in found])
    del found
    indices: dict[str, list[int]] = {"": []}
    for index, reason in balanced(examples, order):
        indices.setdefault(reason, []).append(index)
    kept = np.array(indices.pop(""), np.int64)
    rows = np.flatnonzero(marks == 0)
    for reason, dropped in indices.items():
        of_reason = np.array(dropped, np.int64)
        for some in _slices(of_reason):
            counts.drop(source, reason, examples.select(some))
        deduplicator.forget(rows[of_reason], num_examples=len(marks))
    yield from map(examples.select, _slices(kept))


def _slices(indices: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """A few at a time: selecting takes 16 bytes for each of their tokens."""
    for start in range(0, len(indices), WINDOW_EXAMPLES):
        yield indices[start : start + WINDOW_EXAMPLES]
