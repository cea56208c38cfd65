import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from training.data import dedupe
from training.data.dedupe import Deduplicator


@pytest.fixture
def deduplicator(tmp_path: Path) -> Iterator[Deduplicator]:
    with Deduplicator(tmp_path / "keys", for_verifier=False) as made:
        yield made


def marks(deduplicator: Deduplicator, *keys: int | tuple[int, ...]) -> list[int]:
    """What becomes of one source with these keys, added as two parts."""
    columns = np.array(keys, np.uint64).reshape(len(keys), -1 if keys else 1)
    for part in np.array_split(columns, 2):
        deduplicator.add(part)
    return deduplicator.mark(len(keys)).tolist()


def test_the_first_of_equal_examples_stays_over_all_sources(deduplicator: Deduplicator) -> None:
    assert marks(deduplicator, 1, 2, 1, 1) == [0, 0, 1, 1]
    assert marks(deduplicator, 2, 3) == [1, 0]
    assert marks(deduplicator) == []
    assert marks(deduplicator, 3, 2**64 - 1, 1, 2**64 - 1) == [1, 0, 1, 1]


def test_a_reason_names_what_was_compared(tmp_path: Path) -> None:
    for for_verifier, what in ((False, "question"), (True, "program of a question")):
        with Deduplicator(tmp_path / "keys", for_verifier=for_verifier) as made:
            assert made.reasons[1] == f"duplicate {what}"
    assert not (tmp_path / "keys").exists()


def test_an_equal_key_in_any_other_column_is_a_near_duplicate(deduplicator: Deduplicator) -> None:
    assert marks(deduplicator, (1, 8, 9), (2, 7, 9), (1, 7, 5), (3, 9, 8)) == [0, 2, 1, 0]
    # The second example is dropped, so its 7 is free again; the last one's 8 is taken.
    assert marks(deduplicator, (4, 7, 4), (5, 5, 8), (6, 8, 6)) == [0, 2, 2]


def test_what_a_later_filter_drops_may_come_again_but_no_duplicate_of_what_stays(
    deduplicator: Deduplicator,
) -> None:
    assert marks(deduplicator, 7) == [0]
    assert marks(deduplicator, 1, 2, 2) == [0, 0, 1]
    deduplicator.forget(np.array([1]), num_examples=3)
    assert marks(deduplicator, 1, 2, 7, 2) == [1, 0, 1, 1]


def first_occurrences(sources: list[NDArray[np.uint64]]) -> list[list[int]]:
    """What a set of all keys gives."""
    seen: set[int] = set()
    found: list[list[int]] = []
    for keys in sources:
        found.append([])
        for key in keys.tolist():
            found[-1].append(int(key in seen))
            seen.add(key)
    return found


def test_many_keys_are_compared_in_groups_as_a_set_compares_them(
    deduplicator: Deduplicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dedupe, "_GROUP_ROWS", 100)
    monkeypatch.setattr(dedupe, "_BLOCK_ROWS", 77)
    generator = np.random.default_rng(0)
    spread = generator.integers(2**64, size=800, dtype=np.uint64)
    sources = [generator.choice(spread, size=number) for number in (1000, 1, 500)]
    wanted = first_occurrences(sources)
    assert 0 < sum(itertools.chain(*wanted)) < 1501
    assert [marks(deduplicator, *keys.tolist()) for keys in sources] == wanted
