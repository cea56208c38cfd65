"""Loads packed sequences as micro-batches, in an order that depends on seed and position alone.

    dataset = SequenceDataset(folder, sequence_length=1024)
    loader = Loader(dataset, seed=1, global_batch_sequences=64, micro_batch_sequences=8,
                    rank=0, world_size=2, head="language_model")
    for batch in loader.next_step():
        ...

The stream of sequences is endless (training/data/order.py), and a step may span two epochs. A step
takes the next `global_batch_sequences` of the stream, so which sequences it trains on depends
neither on ranks nor on micro-batches. The next steps' batches are made in a thread while a step
computes. The loader's state is the number of sequences that training has consumed, whatever was
made ahead, and any number of ranks can resume from it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from parallel.layout import accumulation_steps
from training.config.values import HeadKind
from training.data.dataset import SequenceDataset
from training.data.micro_batch import Batch, collate
from training.data.order import Order
from training.data.prefetch import Prefetcher
from training.errors import CheckpointError, ConfigError, DataError


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
        source_weights: Sequence[float] = (),
        padded: bool = True,
        pinned: bool = False,
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
            source_weights: How often each source is drawn, relative to the others; empty: the
                sources are not told apart.
            padded: Give all batches one shape, or leave the padding out; see `collate`.
            pinned: Make batches in pinned memory, for a GPU.

        Raises:
            ConfigError: the global batch does not divide evenly, or the data was prepared for the
                other head.
            DataError: the data holds no sequences, or none of a source with a weight.
        """
        # Raises where the global batch does not divide evenly.
        accumulation_steps(global_batch_sequences, micro_batch_sequences, data_degree=world_size)
        if not len(dataset):
            raise DataError("the prepared data holds no sequences")
        if dataset.facts["head"] != head:
            raise ConfigError(
                f"data.folder was prepared for a {dataset.facts['head']}, but model.head is "
                f"{head!r}: set one of them"
            )
        self._dataset, self._seed = dataset, seed
        sizes = dataset.source_sizes() if source_weights else [len(dataset)]
        self._order = Order(sizes, source_weights or [1.0], seed=seed)
        self._is_mixed = bool(source_weights)
        self._head: HeadKind = head
        self._global_batch_sequences, self._micro_batch_sequences = (
            global_batch_sequences,
            micro_batch_sequences,
        )
        self._rank, self._world_size = rank, world_size
        self._question_weight = question_weight
        self._padded, self._pinned = padded, pinned
        self._sequence_length = int(dataset.facts["sequence_length"])
        self._most_examples = int(dataset.facts["most_examples_in_a_sequence"])
        self.consumed_sequences = 0
        """Sequences that all ranks together have consumed since the start of training."""
        self._prefetcher = Prefetcher(self._batches_at, stride=global_batch_sequences)

    @property
    def order(self) -> Order:
        """Which sequence is at each position of the stream."""
        return self._order

    def next_indices(self) -> list[list[int]]:
        """For each of this rank's next micro-batches its sequences' indices; consumes nothing."""
        return self._indices_at(self.consumed_sequences)

    def next_step(self) -> list[Batch]:
        """This rank's micro-batches of the next optimizer step.

        Raises:
            DamagedFileError: a sequence of it cannot be read; nothing is consumed.
        """
        batches = self._prefetcher.take(self.consumed_sequences)
        self.consumed_sequences += self._global_batch_sequences
        return batches

    def close(self) -> None:
        """End the thread that makes batches ahead."""
        self._prefetcher.close()

    def _indices_at(self, consumed: int) -> list[list[int]]:
        """This rank's micro-batches of the step that begins at a position of the stream."""
        per_rank = self._global_batch_sequences // self._world_size
        start = consumed + self._rank * per_rank
        indices = self._order.indices(np.arange(start, start + per_rank))
        return indices.reshape(-1, self._micro_batch_sequences).tolist()

    def _batches_at(self, consumed: int) -> list[Batch]:
        batches = [
            collate(
                self._dataset.sequences(indices),
                sequence_length=self._sequence_length,
                head=self._head,
                question_weight=self._question_weight,
                most_examples=self._most_examples,
                padded=self._padded,
            )
            for indices in self._indices_at(consumed)
        ]
        return [batch.pinned() for batch in batches] if self._pinned else batches

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to resume, equal on every rank."""
        state = {
            "consumed_sequences": self.consumed_sequences,
            "seed": self._seed,
            "num_sequences": len(self._dataset),
            "data": self._dataset.fingerprint,
        }
        return state | ({"source_parts": self._order.parts} if self._is_mixed else {})

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
        parts = self._order.parts if self._is_mixed else None
        if state.get("source_parts") != parts:
            raise CheckpointError(
                f"the checkpoint's sequences were drawn from the sources in the proportion "
                f"{_proportion(state.get('source_parts'))}, data.sources has the weights "
                f"{_proportion(parts)}: set these back, or set another run.folder"
            )
        consumed = state["consumed_sequences"]
        if not isinstance(consumed, int) or isinstance(consumed, bool) or consumed < 0:
            raise CheckpointError(
                f"the loader's state has consumed_sequences = {consumed!r}: it must be a count"
            )
        self.consumed_sequences = consumed


def _proportion(parts: Any) -> str:
    return " : ".join(map(str, parts)) if isinstance(parts, list) else "none"
