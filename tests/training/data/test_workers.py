import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from training.config import ConfigError
from training.data.workers import in_chunks, in_order


@dataclass
class Double:
    fails_at: int = -1
    dies_at: int = -1
    factor: int = 0

    def open(self) -> None:
        self.factor = 2

    def close(self) -> None:
        self.factor = 0

    def __call__(self, item: int, /) -> int:
        if item == self.fails_at:
            raise ValueError(f"{item} is no good")
        if item == self.dies_at:
            os._exit(1)
        return item * self.factor


@pytest.mark.parametrize("num_workers", [1, 2])
def test_results_come_in_order(num_workers: int) -> None:
    results = list(in_order(Double(), range(50), num_workers=num_workers))
    assert results == [2 * item for item in range(50)]


def test_one_worker_is_this_process_and_is_closed() -> None:
    worker = Double()
    results = in_order(worker, range(3), num_workers=1)
    assert next(results) == 0 and worker.factor == 2
    assert list(results) == [2, 4] and worker.factor == 0


@pytest.mark.parametrize("num_workers", [1, 2])
def test_an_error_in_a_worker_comes_out(num_workers: int) -> None:
    with pytest.raises(ValueError, match="7 is no good"):
        list(in_order(Double(fails_at=7), range(20), num_workers=num_workers))


def test_a_dead_worker_is_an_error_not_a_hang() -> None:
    with pytest.raises(ConfigError, match=r"worker processes died.*data\.num_workers"):
        list(in_order(Double(dies_at=3), range(20), num_workers=2))


def test_the_stream_is_read_only_a_little_ahead() -> None:
    taken = 0

    def stream() -> Iterator[int]:
        nonlocal taken
        for item in range(1000):
            taken += 1
            yield item

    results = in_order(Double(), stream(), num_workers=2)
    next(results)
    assert taken <= 10
    results.close()  # type: ignore[attr-defined]


def test_chunks_hold_everything_once() -> None:
    assert list(in_chunks(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(in_chunks([], 2)) == []
