"""Lays packed sequences out as the tensors of a micro-batch, which the losses take."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from training.config.values import HeadKind
from training.data.pack import Mode, PackedSequence


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatch:
    """Packed sequences, and which of their tokens are supervised.

    Supervised tokens are selected here, on the CPU: on a GPU the host would wait for their number.
    """

    tokens: Tensor
    """int64 `[sequences, sequence_length]`, 0 in the padding; or `[1, tokens]` without padding, the
    sequences one after the other."""
    positions: Tensor
    """int64, of the same shape: from 0 in each example; 0 in the padding."""
    borders: Tensor
    """int32 `[n]`: where each document begins in the flattened batch, in ascending order, and then
    the number of its tokens. Each sequence's padding is a document. `n` is the same for all
    micro-batches of a run: the number of tokens is repeated at the end."""
    supervised: Tensor
    """int64 `[supervised]`: positions in the flattened batch whose label counts in the loss."""
    labels: Tensor
    """`[supervised]`, for a language model int64: the next token; for a verifier float32: 1 in
    right programs, 0 in wrong ones."""
    weights: Tensor
    """float32 `[supervised]`: the weight of each label in the loss."""

    def to(self, device: torch.device) -> "MicroBatch":
        """The same on a device. The host does not wait for the copy of pinned memory."""
        return MicroBatch(
            **{name: value.to(device, non_blocking=True) for name, value in self._tensors().items()}
        )

    def _tensors(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name) for field in fields(MicroBatch)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch(MicroBatch):
    """A micro-batch on the CPU, with what is counted in it."""

    document_ids: Tensor
    """int64, of the shape of `tokens`: the number of the example in the batch, from 0; -1 in the
    padding."""
    num_examples: int
    num_tokens: int
    """Without padding."""
    num_supervised: int
    weight: float
    """The sum of `weights`. The loss of a step is divided by the sum of these over the step."""
    num_attended: int
    """Pairs of a token and a key it attends to, over all examples: n (n + 1) / 2 each."""

    def pinned(self) -> "Batch":
        """The same in memory that a GPU reads while the host continues."""
        return replace(
            self, **{name: value.pin_memory() for name, value in self._tensors().items()}
        )


def collate(
    sequences: Sequence[PackedSequence],
    *,
    sequence_length: int,
    head: HeadKind,
    question_weight: float = 1.0,
    most_examples: int = 0,
    padded: bool = True,
) -> Batch:
    """Lay sequences out, each padded to `sequence_length` or all one after the other.

    Args:
        sequences: What to lay out.
        sequence_length: In tokens.
        head: The head that the labels are for.
        question_weight: Loss weight of a supervised question token; a program token's is 1.
        most_examples: Of one sequence of the run, for the length of `borders`; 0: of these.
        padded: Whether all batches of a run have the same shape, or no padding.
    """
    sizes = [len(sequence.tokens) for sequence in sequences]
    shape = (len(sequences), sequence_length) if padded else (1, sum(sizes))
    tokens, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    documents, modes = np.full(shape, -1, np.int64), np.zeros(shape, np.int64)
    weights = np.ones(shape, np.float32)
    num_examples = num_attended = 0
    for number, (sequence, size) in enumerate(zip(sequences, sizes, strict=True)):
        start = number * sequence_length if padded else sum(sizes[:number])
        here = slice(start, start + size)
        lengths = sequence.lengths[0::2] + sequence.lengths[1::2]
        starts = np.cumsum(lengths) - lengths
        tokens.flat[here] = sequence.tokens
        positions.flat[here] = np.arange(size) - np.repeat(starts, lengths)
        documents.flat[here] = num_examples + np.repeat(np.arange(len(lengths)), lengths)
        modes.flat[here] = np.repeat(sequence.modes, sequence.lengths)
        # Segments alternate: a question, its program, the next question.
        segment_weights = np.tile(np.array([question_weight, 1.0], np.float32), len(lengths))
        weights.flat[here] = np.repeat(segment_weights, sequence.lengths)
        num_examples += len(lengths)
        num_attended += int((lengths * (lengths + 1) // 2).sum())
    if head == "verifier":
        supervised = np.flatnonzero(modes >= Mode.WRONG)
        labels = (modes.ravel()[supervised] == Mode.RIGHT).astype(np.float32)
        weights = weights.ravel()[supervised]
    else:
        is_next = np.zeros(shape, np.bool_)
        is_next[:, 1:] = (modes[:, 1:] == Mode.SUPERVISED) & (documents[:, 1:] == documents[:, :-1])
        following = np.flatnonzero(is_next)
        supervised = following - 1
        labels, weights = tokens.ravel()[following], weights.ravel()[following]
    document_ids = torch.from_numpy(documents)
    return Batch(
        tokens=torch.from_numpy(tokens),
        positions=torch.from_numpy(positions),
        document_ids=document_ids,
        # The padding of a sequence is one document more.
        borders=borders_of(document_ids, length=len(sequences) * (most_examples + 1) + 1),
        supervised=torch.from_numpy(supervised),
        labels=torch.from_numpy(labels),
        weights=torch.from_numpy(weights),
        num_examples=num_examples,
        num_tokens=sum(sizes),
        num_supervised=len(supervised),
        weight=float(weights.sum(dtype=np.float64)),
        num_attended=num_attended,
    )


def borders_of(document_ids: Tensor, *, length: int = 0) -> Tensor:
    """The borders of documents, see `MicroBatch.borders`.

    Args:
        document_ids: `[sequences, tokens]` integers, constant over each document and different in
            adjacent documents.
        length: Of the result, if it is more than there are borders.
    """
    begins = torch.ones_like(document_ids, dtype=torch.bool)
    begins[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
    places = begins.flatten().nonzero().flatten().int()
    borders = places.new_full((max(length, len(places) + 1),), document_ids.numel())
    borders[: len(places)] = places
    return borders
