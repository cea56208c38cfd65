"""Rows become micro-batches, in an order that is a pure function of (seed, position).

    loader = Loader(RowDataset(folder, sequence_length=1024), seed=1, global_batch_sequences=64,
                    micro_batch_sequences=8, rank=0, world_size=2, head="language_model")
    for batch in loader.next_step():
        ...

The stream of rows is endless: epoch after epoch, each in an order of its own, none left
out at the border. A step takes the next `global_batch_sequences` of it, so WHICH rows a step
trains on does not depend on ranks or micro-batches, and the loader's whole state is how
many rows were consumed. It may be loaded at any number of ranks.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parallel.layout import accumulation_steps
from training.config import ConfigError
from training.data.pack import Mode
from training.data.shards import Row, RowDataset

__all__ = ["Batch", "Head", "Loader", "RowDataset", "batch_of", "rows_at"]

Head = Literal["language_model", "verifier"]

IGNORED = -100
"""The label of a position whose next token is not supervised."""

_ROUNDS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One micro-batch; all tensors are `[rows, sequence_length]`."""

    tokens: Tensor
    """int64; 0 in the padding."""
    positions: Tensor
    """int64, from 0 in each example; 0 in the padding."""
    document_ids: Tensor
    """int64, counted from 0 in each row; -1 in the padding."""
    labels: Tensor
    """For a language model int64: the token to write next, -100 where it is not
    supervised. For a verifier float32: 1 on tokens of right programs, else 0."""
    supervised: Tensor
    """bool: the positions whose label counts."""
    weights: Tensor
    """float32: how much each supervised position counts; 0 elsewhere."""
    num_examples: int
    num_tokens: int
    """Without padding."""
    num_supervised: int
    weight: float
    """The sum of `weights`: what the loss is divided by, summed over the step."""
    num_attended: int
    """Pairs of a token and a key it attends to, over all examples: n (n + 1) / 2 each."""


class Loader:
    """Micro-batches of this data-parallel rank, step by step."""

    def __init__(
        self,
        dataset: RowDataset,
        *,
        seed: int,
        global_batch_sequences: int,
        micro_batch_sequences: int,
        rank: int,
        world_size: int,
        head: Head,
        question_weight: float = 1.0,
    ) -> None:
        """Start at the first row; `load_state_dict` goes on elsewhere.

        Args:
            dataset: The rows.
            seed: Decides the order.
            global_batch_sequences: Rows of one optimizer step, over all ranks.
            micro_batch_sequences: Rows of one `Batch`.
            rank: Position among the data-parallel ranks.
            world_size: The number of data-parallel ranks.
            head: What the labels are for.
            question_weight: Weight of a supervised question token beside a program's 1.

        Raises:
            ConfigError: the rows do not divide evenly, the data holds no rows, or they
                were prepared for the other head.
        """
        self._num_micro_batches = accumulation_steps(
            global_batch_sequences, micro_batch_sequences, data_degree=world_size
        )
        if not len(dataset):
            raise ConfigError("the prepared data holds no rows")
        if dataset.facts["head"] != head:
            raise ConfigError(
                f"the data was prepared for a {dataset.facts['head']}, the model's head is a "
                f"{head}: set data.folder or model.head"
            )
        self._dataset, self._seed = dataset, seed
        self._head: Head = head
        self._global_batch_sequences, self._micro_batch_sequences = (
            global_batch_sequences,
            micro_batch_sequences,
        )
        self._rank, self._world_size = rank, world_size
        self._question_weight = question_weight
        self._sequence_length = int(dataset.facts["sequence_length"])
        self.consumed_rows = 0
        """Rows that all ranks together have taken since the start of training."""

    @property
    def epoch(self) -> float:
        """How often the data was gone through, in fractions."""
        return self.consumed_rows / len(self._dataset)

    @property
    def num_micro_batches(self) -> int:
        """Micro-batches of one step on this rank."""
        return self._num_micro_batches

    def next_rows(self) -> list[list[int]]:
        """The row numbers of this rank's next micro-batches, without consuming them."""
        share = self._global_batch_sequences // self._world_size
        start = self.consumed_rows + self._rank * share
        rows = rows_at(
            np.arange(start, start + share), num_rows=len(self._dataset), seed=self._seed
        )
        return rows.reshape(-1, self._micro_batch_sequences).tolist()

    def next_step(self) -> list[Batch]:
        """This rank's micro-batches of the next optimizer step."""
        batches = [
            batch_of(
                [self._dataset.row(row) for row in rows],
                sequence_length=self._sequence_length,
                head=self._head,
                question_weight=self._question_weight,
            )
            for rows in self.next_rows()
        ]
        self.consumed_rows += self._global_batch_sequences
        return batches

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on: the same on every rank."""
        return {
            "consumed_rows": self.consumed_rows,
            "seed": self._seed,
            "num_rows": len(self._dataset),
            "data": self._dataset.fingerprint,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the rows that `state` has consumed.

        Raises:
            ConfigError: it is no state of a loader, or one of other data or another seed: its
                position would mean other rows.
        """
        missing = {"consumed_rows", "seed", "data"} - set(state)
        if missing:
            raise ConfigError(f"the loader's state lacks {', '.join(sorted(missing))}")
        if state["data"] != self._dataset.fingerprint:
            raise ConfigError(
                f"the checkpoint was trained on other data (fingerprint {str(state['data'])[:12]}, "
                f"{state.get('num_rows', '?')} rows) than data.folder holds now (fingerprint "
                f"{self._dataset.fingerprint[:12]}, {len(self._dataset)} rows): prepare the "
                "same data again, or start a new run in another run.folder"
            )
        if state["seed"] != self._seed:
            raise ConfigError(
                f"the checkpoint's rows were drawn with seed {state['seed']}, run.seed is "
                f"{self._seed}: set run.seed = {state['seed']} or start a new run"
            )
        consumed = state["consumed_rows"]
        if not isinstance(consumed, int) or isinstance(consumed, bool) or consumed < 0:
            raise ConfigError(
                f"the loader's state says consumed_rows = {consumed!r}: it must be a count"
            )
        self.consumed_rows = consumed


def rows_at(positions: NDArray[np.int64], *, num_rows: int, seed: int) -> NDArray[np.int64]:
    """The row numbers at these positions of the endless stream.

    Every epoch is a permutation of all rows. It is worked out for single positions by a
    Feistel network over the next square number of rows, walking on while it lands
    outside (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002): nothing
    of the data's size is ever held.
    """
    epochs, index = np.divmod(positions.astype(np.uint64), np.uint64(num_rows))
    keys = _mix(_mix(np.full_like(epochs, seed)) ^ epochs)
    side = np.uint64(math.isqrt(num_rows - 1) + 1)
    rows = _feistel(index, keys, side)
    while (outside := rows >= num_rows).any():
        rows[outside] = _feistel(rows[outside], keys[outside], side)
    return rows.astype(np.int64)


def _feistel(
    index: NDArray[np.uint64], keys: NDArray[np.uint64], side: np.uint64
) -> NDArray[np.uint64]:
    left, right = np.divmod(index, side)
    for number in range(_ROUNDS):
        turned = _mix(right + _mix(keys + np.uint64(number)))
        left, right = right, (left + turned % side) % side
    return left * side + right


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finalizer: each input bit flips half of the output bits."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def batch_of(
    rows: list[Row], *, sequence_length: int, head: Head, question_weight: float = 1.0
) -> Batch:
    """Lay rows side by side and work out what each position is to learn."""
    shape = (len(rows), sequence_length)
    tokens, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    documents, modes = np.full(shape, -1, np.int64), np.zeros(shape, np.int64)
    weights = np.ones(shape, np.float32)
    num_examples = num_tokens = num_attended = 0
    for number, row in enumerate(rows):
        lengths = row.lengths[0::2] + row.lengths[1::2]
        size = len(row.tokens)
        starts = np.cumsum(lengths) - lengths
        tokens[number, :size] = row.tokens
        positions[number, :size] = np.arange(size) - np.repeat(starts, lengths)
        documents[number, :size] = np.repeat(np.arange(len(lengths)), lengths)
        modes[number, :size] = np.repeat(row.modes, row.lengths)
        # Segments alternate: a question, its program, the next question.
        segment_weights = np.tile(np.array([question_weight, 1.0], np.float32), len(lengths))
        weights[number, :size] = np.repeat(segment_weights, row.lengths)
        num_examples += len(lengths)
        num_tokens += size
        num_attended += int((lengths * (lengths + 1) // 2).sum())
    if head == "verifier":
        supervised = modes >= Mode.WRONG
        labels = torch.from_numpy((modes == Mode.RIGHT).astype(np.float32))
    else:
        supervised = np.zeros(shape, np.bool_)
        supervised[:, :-1] = (modes[:, 1:] == Mode.SUPERVISED) & (
            documents[:, 1:] == documents[:, :-1]
        )
        labels = torch.from_numpy(np.where(supervised, np.roll(tokens, -1, axis=1), IGNORED))
        weights = np.roll(weights, -1, axis=1)
    weights = np.where(supervised, weights, np.float32(0.0))
    return Batch(
        tokens=torch.from_numpy(tokens),
        positions=torch.from_numpy(positions),
        document_ids=torch.from_numpy(documents),
        labels=labels,
        supervised=torch.from_numpy(supervised),
        num_examples=num_examples,
        num_tokens=num_tokens,
        weights=torch.from_numpy(weights),
        num_supervised=int(supervised.sum()),
        weight=float(weights.sum(dtype=np.float64)),
        num_attended=num_attended,
    )
