from collections import Counter

import numpy as np
import pytest

from training.data.order import Order, sequence_indices
from training.errors import ConfigError


def test_one_source_has_the_order_of_the_whole_data() -> None:
    positions = np.arange(1000)
    expected = sequence_indices(positions, num_sequences=123, seed=7)
    for weight in (1.0, 0.3, 20.0):
        assert Order([123], [weight], seed=7).indices(positions).tolist() == expected.tolist()


def source_of(index: int, sizes: list[int]) -> int:
    return int(np.searchsorted(np.cumsum(sizes), index, side="right"))


@pytest.mark.parametrize(
    ("sizes", "weights"),
    [
        ([100, 50], [0.5, 0.5]),
        ([100, 7, 300], [0.7, 0.2, 0.1]),
        ([10, 10, 10, 10], [3, 1, 4, 1.5]),
        ([1000, 3], [0.999, 0.001]),
    ],
)
def test_every_stretch_has_the_proportions(sizes: list[int], weights: list[float]) -> None:
    order = Order(sizes, weights, seed=3)
    indices = order.indices(np.arange(20_000))
    sources = np.array([source_of(index, sizes) for index in indices])
    for start, stop in ((0, 20_000), (0, 64), (777, 1_401), (12_345, 12_361)):
        found = np.bincount(sources[start:stop], minlength=len(sizes))
        expected = np.array(weights) / sum(weights) * (stop - start)
        assert (np.abs(found - expected) < len(sizes)).all()
    total = sum(order.parts)
    found = np.bincount(sources[: 20_000 // total * total], minlength=len(sizes))
    assert found.tolist() == [part * (20_000 // total) for part in order.parts]


def test_each_source_has_epochs_of_its_own() -> None:
    sizes = [40, 9]
    indices = Order(sizes, [0.75, 0.25], seed=5).indices(np.arange(1_000))
    first, second = indices[indices < 40], indices[indices >= 40]
    for drawn, size in ((first, 40), (second, 9)):
        epochs = drawn[: len(drawn) // size * size].reshape(-1, size)
        assert all(len(set(epoch.tolist())) == size for epoch in epochs)
        assert (epochs[0] != epochs[1]).any()


def test_a_position_means_the_same_sequence_however_it_is_asked() -> None:
    order = Order([60, 70, 80], [0.5, 0.3, 0.2], seed=1)
    together = order.indices(np.arange(300, 700))
    apart = [int(order.indices(np.array([position]))[0]) for position in range(300, 700)]
    assert together.tolist() == apart


def test_far_positions_do_not_overflow() -> None:
    order = Order([10**9, 10**6], [999.999, 0.001], seed=1)
    start = 10**15
    indices = order.indices(np.arange(start, start + 1_000))
    assert indices.min() >= 0 and indices.max() < 10**9 + 10**6
    assert sum(order.draws(start)) == start


def test_draws_epochs_and_repeats_are_those_of_the_stream() -> None:
    sizes = [40, 9]
    order = Order(sizes, [0.6, 0.4], seed=2)
    for num_positions in (0, 1, 17, 100):
        indices = order.indices(np.arange(num_positions)).tolist()
        drawn = Counter(source_of(index, sizes) for index in indices)
        assert order.draws(num_positions) == [drawn[0], drawn[1]]
        for source, size in enumerate(sizes):
            mine = [index for index in indices if source_of(index, sizes) == source]
            assert order.epochs(num_positions)[source] == len(mine) / size
            repeats = len(mine) - len(set(mine))
            assert order.repeated(num_positions)[source] == repeats / max(len(mine), 1)


def test_weights_of_too_many_digits_are_refused() -> None:
    with pytest.raises(ConfigError, match="round them to fewer digits"):
        Order([1, 1], [0.1234567890123, 0.3], seed=1)
