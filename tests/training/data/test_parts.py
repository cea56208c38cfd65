from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.data.packing import example, random_examples
from training.data import parts
from training.data.filter_counts import FilterCounts
from training.data.pack import Examples
from training.disk import NoSpace


def converted(number: int, *, key_columns: int = 1) -> parts.Converted:
    generator = np.random.default_rng(number)
    empty = Examples(
        tokens=np.zeros(0, np.uint16),
        lengths=np.zeros((0, 2), np.int64),
        modes=np.zeros((0, 2), np.uint8),
    )
    return parts.Converted(
        head=parts.Head(
            source=3,
            num_rows=number + 2,
            keys=generator.integers(2**64, size=(number, key_columns), dtype=np.uint64),
            filters=FilterCounts(dropped=Counter({"why": 2})),
        ),
        examples=Examples.concatenate([empty, *random_examples(number, seed=number)]),
        order=generator.integers(2**64, size=number, dtype=np.uint64),
    )


@pytest.mark.parametrize("key_columns", [1, 9])
@pytest.mark.parametrize("number", [0, 1, 300])
def test_parts_come_back_as_written(tmp_path: Path, number: int, key_columns: int) -> None:
    given = converted(number, key_columns=key_columns)
    path = parts.path_of(tmp_path / "parts", 0)
    parts.write(path, given, made_from="this")
    assert parts.is_current(path, made_from="this") and not parts.is_current(path, made_from="that")
    found = parts.read(path)
    for head in (found.head, parts.read_head(path)):
        assert (head.source, head.num_rows, head.filters.dropped) == (3, number + 2, {"why": 2})
        assert head.keys.dtype == np.uint64 and np.array_equal(head.keys, given.head.keys)
    assert np.array_equal(found.order, given.order)
    for name in ("tokens", "lengths", "modes"):
        one, other = getattr(found.examples, name), getattr(given.examples, name)
        assert one.dtype == other.dtype and np.array_equal(one, other)


def test_parts_keep_ids_of_32_bits(tmp_path: Path) -> None:
    wide = [example([70_000], [1, 2]), example([3], [151_935, 5])]
    given = replace(converted(2), examples=Examples.concatenate(wide))
    path = parts.path_of(tmp_path / "parts", 0)
    parts.write(path, given, made_from="this")
    found = parts.read(path).examples
    assert found.tokens.tolist() == [70_000, 1, 2, 3, 151_935, 5]
    assert found.tokens.dtype == np.int32 and found.lengths.tolist() == [[1, 2], [1, 2]]


def test_room_is_required_for_the_parts_to_come_and_the_shards(tmp_path: Path) -> None:
    path = parts.path_of(tmp_path / "parts", 0)
    parts.write(path, converted(300), made_from="this")
    parts.require_room(path, num_missing=10, num_parts=10)
    with pytest.raises(NoSpace, match="the rest of the prepared data"):
        parts.require_room(path, num_missing=0, num_parts=10**12)
