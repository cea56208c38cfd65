"""The order of the sequences: which one is at each position of the endless stream.

    order = Order([num_sequences], [1.0], seed=1)
    indices = order.indices(np.arange(start, stop))

A pure function of seed and position. The stream goes over the data again and again, each epoch a
permutation of its own. Sources with weights are mixed: every stretch of the stream holds each
source in exactly its proportion, to within whole sequences, and each source has epochs of its own.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from training.errors import ConfigError

_ROUNDS = 8
_LARGEST_TOTAL = 2**31
"""Of the whole numbers that stand for the weights: their products then fit in int64."""
_SEED_OF_NEXT_SOURCE = 0x9E3779B97F4A7C15


class Order:
    """Which sequence is at each position, over one or several sources."""

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], *, seed: int) -> None:
        """Decide the order.

        Args:
            sizes: The number of sequences of each source, in the order of their indices.
            weights: For each source how often it is drawn, relative to the others.
            seed: Decides the order within each source.

        Raises:
            ConfigError: the weights have too many digits.
        """
        self.sizes = list(sizes)
        self.parts = _whole(weights)
        """The weights as whole numbers without a common divisor."""
        self._seed = seed

    def indices(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The indices of the sequences at these positions, `[positions]`."""
        found = np.empty_like(positions)
        # `rank` counts the positions that no earlier source takes.
        rank, places = positions, np.arange(len(positions))
        start, remaining = 0, sum(self.parts)
        for source, (size, part) in enumerate(zip(self.sizes, self.parts, strict=True)):
            before = _drawn(rank, part, remaining)
            takes = _drawn(rank + 1, part, remaining) > before
            found[places[takes]] = start + sequence_indices(
                before[takes], num_sequences=size, seed=self._seed_of(source)
            )
            rank, places = (rank - before)[~takes], places[~takes]
            start, remaining = start + size, remaining - part
        return found

    def draws(self, num_positions: int) -> list[int]:
        """How many of the first `num_positions` positions each source has."""
        found: list[int] = []
        rank, remaining = num_positions, sum(self.parts)
        for part in self.parts:
            found.append(rank * part // remaining)
            rank, remaining = rank - found[-1], remaining - part
        return found

    def epochs(self, num_positions: int) -> list[float]:
        """Passes over each source in the first `num_positions` positions, with fractions."""
        draws = self.draws(num_positions)
        return [drawn / size for drawn, size in zip(draws, self.sizes, strict=True)]

    def repeated(self, num_positions: int) -> list[float]:
        """Fraction of each source's draws that were of a sequence drawn before."""
        draws = self.draws(num_positions)
        return [
            max(drawn - size, 0) / max(drawn, 1)
            for drawn, size in zip(draws, self.sizes, strict=True)
        ]

    def _seed_of(self, source: int) -> int:
        """Sources of one size are not permuted alike; the first source has the run's seed."""
        return (self._seed + source * _SEED_OF_NEXT_SOURCE) % 2**64


def _whole(weights: Sequence[float]) -> list[int]:
    """Weights, as they are written in decimals, as whole numbers of the same proportions."""
    fractions = [Fraction(str(weight)) for weight in weights]
    scale = math.lcm(*(fraction.denominator for fraction in fractions))
    whole = [int(fraction * scale) for fraction in fractions]
    whole = [number // math.gcd(*whole) for number in whole]
    if sum(whole) >= _LARGEST_TOTAL:
        raise ConfigError(
            f"the weights of data.sources, {', '.join(map(str, weights))}, are in the proportion "
            f"of {' : '.join(map(str, whole))}: round them to fewer digits"
        )
    return whole


def _drawn(rank: NDArray[np.int64], part: int, total: int) -> NDArray[np.int64]:
    """`rank * part // total`, without an overflow."""
    rounds, rest = np.divmod(rank, total)
    return rounds * part + rest * part // total


def sequence_indices(
    positions: NDArray[np.int64], *, num_sequences: int, seed: int
) -> NDArray[np.int64]:
    """The indices of the sequences at these positions of the endless stream, `[positions]`.

    Every epoch is a permutation of all sequences. It is computed for single positions by a
    Feistel network over the next square number, applied again while the result is not below
    `num_sequences` (cycle walking; Black and Rogaway, "Ciphers with arbitrary finite domains",
    2002). Memory does not grow with the data.
    """
    epochs, index = np.divmod(positions.astype(np.uint64), np.uint64(num_sequences))
    keys = _mix(_mix(np.full_like(epochs, seed)) ^ epochs)
    side = np.uint64(math.isqrt(num_sequences - 1) + 1)
    indices = _feistel(index, keys, side)
    while (outside := indices >= num_sequences).any():
        indices[outside] = _feistel(indices[outside], keys[outside], side)
    return indices.astype(np.int64)


def _feistel(
    index: NDArray[np.uint64], keys: NDArray[np.uint64], side: np.uint64
) -> NDArray[np.uint64]:
    left, right = np.divmod(index, side)
    for number in range(_ROUNDS):
        mixed = _mix(right + _mix(keys + np.uint64(number)))
        left, right = right, (left + mixed % side) % side
    return left * side + right


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finalizer: flipping an input bit flips half of the output bits on average."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
