"""Loads packed sequences as micro-batches, in an order that depends on seed and position alone.

    dataset = SequenceDataset(folder, sequence_length=1024)
    loader = Loader(dataset, seed=1, global_batch_sequences=64, micro_batch_sequences=8,
                    rank=0, world_size=2, head="language_model")
    for batch in loader.next_step():
        ...

The stream of sequences is endless: epoch after epoch, each a permutation of its own, and a step
may span two epochs. A step takes the next `global_batch_sequences` of the stream, so which
sequences it trains on depends neither on ranks nor on micro-batches. The loader's state is the
number of consumed sequences, and any number of ranks can resume from it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parallel.layout import accumulation_steps
from training.config.values import HeadKind
from training.data.dataset import PackedSequence, SequenceDataset
from training.data.pack import Mode
from training.errors import CheckpointError, ConfigError, DataError

__all__ = ["Batch", "Loader", "SequenceDataset", "collate", "sequence_indices"]


IGNORED = -100
"""The label of a position whose next token is not supervised."""

_ROUNDS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One micro-batch; all tensors are `[sequences, sequence_length]`, on the CPU."""

    tokens: Tensor
    """int64; 0 in the padding."""
    positions: Tensor
    """int64, from 0 in each example; 0 in the padding."""
    document_ids: Tensor
    """int64, the number of the example in its sequence, from 0; -1 in the padding."""
    labels: Tensor
    """For a language model int64: the next token, -100 where it is not supervised. For a
    verifier float32: 1 on tokens of right programs, else 0."""
    supervised: Tensor
    """bool: the positions whose label counts in the loss."""
    weights: Tensor
    """float32: the weight of each supervised position in the loss; 0 elsewhere."""
    num_examples: int
    num_tokens: int
    """Without padding."""
    num_supervised: int
    weight: float
    """The sum of `weights`. The loss of a step is divided by the sum of these over the step."""
    num_attended: int
    """Pairs of a token and a key it attends to, over all examples: n (n + 1) / 2 each."""


class Loader:
    """Micro-batches of this data-parallel rank, step by step."""

    def __init__(
        self,
        dataset: SequenceDataset,
        *,
        seed: int,
        global_batch_sequences: int,
        micro_batch_sequences: int,
        rank: int,
        world_size: int,
        head: HeadKind,
        question_weight: float = 1.0,
    ) -> None:
        """Start at the first sequence; `load_state_dict` resumes at a later one.

        Args:
            dataset: The sequences.
            seed: Decides the order.
            global_batch_sequences: Sequences of one optimizer step, over all ranks.
            micro_batch_sequences: Sequences of one `Batch`.
            rank: This process's number among the data-parallel ranks, from 0.
            world_size: The number of data-parallel ranks.
            head: The head that the labels are for.
            question_weight: Loss weight of a supervised question token; a program token's is 1.

        Raises:
            ConfigError: the global batch does not divide evenly, or the data was prepared for the
                other head.
            DataError: the data holds no sequences.
        """
        self._num_micro_batches = accumulation_steps(
            global_batch_sequences, micro_batch_sequences, data_degree=world_size
        )
        if not len(dataset):
            raise DataError("the prepared data holds no sequences")
        if dataset.facts["head"] != head:
            raise ConfigError(
                f"data.folder was prepared for a {dataset.facts['head']}, but model.head is "
                f"{head!r}: set one of them"
            )
        self._dataset, self._seed = dataset, seed
        self._head: HeadKind = head
        self._global_batch_sequences, self._micro_batch_sequences = (
            global_batch_sequences,
            micro_batch_sequences,
        )
        self._rank, self._world_size = rank, world_size
        self._question_weight = question_weight
        self._sequence_length = int(dataset.facts["sequence_length"])
        self.consumed_sequences = 0
        """Sequences that all ranks together have consumed since the start of training."""

    @property
    def epoch(self) -> float:
        """Passes over the data so far, with fractions."""
        return self.consumed_sequences / len(self._dataset)

    @property
    def num_micro_batches(self) -> int:
        """Micro-batches of one step on this rank."""
        return self._num_micro_batches

    def next_indices(self) -> list[list[int]]:
        """For each of this rank's next micro-batches its sequences' indices; consumes nothing."""
        per_rank = self._global_batch_sequences // self._world_size
        start = self.consumed_sequences + self._rank * per_rank
        positions = np.arange(start, start + per_rank)
        indices = sequence_indices(positions, num_sequences=len(self._dataset), seed=self._seed)
        return indices.reshape(-1, self._micro_batch_sequences).tolist()

    def next_step(self) -> list[Batch]:
        """This rank's micro-batches of the next optimizer step."""
        batches = [
            collate(
                [self._dataset.sequence(index) for index in indices],
                sequence_length=self._sequence_length,
                head=self._head,
                question_weight=self._question_weight,
            )
            for indices in self.next_indices()
        ]
        self.consumed_sequences += self._global_batch_sequences
        return batches

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to resume, equal on every rank."""
        return {
            "consumed_sequences": self.consumed_sequences,
            "seed": self._seed,
            "num_sequences": len(self._dataset),
            "data": self._dataset.fingerprint,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume after the sequences that `state` has consumed.

        Raises:
            CheckpointError: it is not a loader's state, or one of an older version, of other data
                or of another seed, in which case its position means other sequences.
        """
        if "consumed_rows" in state:
            raise CheckpointError(
                "the loader's state holds consumed_rows, which an older version wrote in place of "
                "consumed_sequences: resume with that version, or set another run.folder"
            )
        missing = {"consumed_sequences", "seed", "data"} - set(state)
        if missing:
            raise CheckpointError(f"the loader's state lacks {', '.join(sorted(missing))}")
        if state["data"] != self._dataset.fingerprint:
            raise CheckpointError(
                f"the checkpoint was trained on other data (fingerprint {str(state['data'])[:12]}, "
                f"{state.get('num_sequences', '?')} sequences) than data.folder holds now "
                f"(fingerprint {self._dataset.fingerprint[:12]}, {len(self._dataset)} sequences): "
                "prepare the same data again, or set another run.folder to start a new run"
            )
        if state["seed"] != self._seed:
            raise CheckpointError(
                f"the checkpoint's sequences were drawn with seed {state['seed']}, run.seed is "
                f"{self._seed}: set run.seed = {state['seed']} or start a new run"
            )
        consumed = state["consumed_sequences"]
        if not isinstance(consumed, int) or isinstance(consumed, bool) or consumed < 0:
            raise CheckpointError(
                f"the loader's state has consumed_sequences = {consumed!r}: it must be a count"
            )
        self.consumed_sequences = consumed


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


def collate(
    sequences: list[PackedSequence],
    *,
    sequence_length: int,
    head: HeadKind,
    question_weight: float = 1.0,
) -> Batch:
    """Pad sequences to `sequence_length`, stack them, and derive labels and weights."""
    shape = (len(sequences), sequence_length)
    tokens, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    documents, modes = np.full(shape, -1, np.int64), np.zeros(shape, np.int64)
    weights = np.ones(shape, np.float32)
    num_examples = num_tokens = num_attended = 0
    for number, sequence in enumerate(sequences):
        lengths = sequence.lengths[0::2] + sequence.lengths[1::2]
        size = len(sequence.tokens)
        starts = np.cumsum(lengths) - lengths
        tokens[number, :size] = sequence.tokens
        positions[number, :size] = np.arange(size) - np.repeat(starts, lengths)
        documents[number, :size] = np.repeat(np.arange(len(lengths)), lengths)
        modes[number, :size] = np.repeat(sequence.modes, sequence.lengths)
        # Segments alternate: a question, its program, the next question.
        segment_weights = np.tile(np.array([question_weight, 1.0], np.float32), len(lengths))
        weights[number, :size] = np.repeat(segment_weights, sequence.lengths)
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
