"""What the trainer takes its batches from: the loader, with errors that all ranks share.

    step = data.next_step()
    if step.failed: data.raise_together()
    for batch in step.batches: ...

A damaged shard or a failed disk concerns one rank. It raises nothing at once: the ranks learn of it
with the counts of the step, and leave the loop together. The counts of a step are added up over the
ranks while the step before it computes.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from parallel.ranks import Ranks
from training.config import TrainConfig
from training.data.dataset import SequenceDataset
from training.data.integrity import Integrity
from training.data.loader import Loader
from training.data.micro_batch import Batch
from training.data.remote_folder import RemoteFile, url_of
from training.errors import DataError, is_for_people
from training.monitoring import names
from training.monitoring.metrics import StepCounts

logger = logging.getLogger(__name__)

USEFUL_EPOCHS = 4
"""Repeating data up to so often is about as good as new data (arXiv 2305.16264, section 5)."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step's batches on this rank, and what the step holds over all ranks."""

    batches: list[Batch]
    """This rank's micro-batches; none if they cannot be read."""
    loss_normalizer: float
    """The sum of the weights of the supervised tokens."""
    counts: StepCounts
    failed: bool
    """Whether a rank has met a problem: then all ranks must call `raise_together`."""


@dataclass(frozen=True, kw_only=True)
class _Ahead:
    """A step whose counts are being added up."""

    batches: list[Batch]
    sums: Callable[[], list[float]]
    consumed_sequences: int
    """Of the stream, once this step is consumed."""


class StepBatches:
    """The micro-batches of each step of a run, on this rank."""

    def __init__(
        self,
        config: TrainConfig,
        ranks: Ranks,
        *,
        data_rank: int,
        data_degree: int,
        counts: bool = True,
        device: torch.device,
    ) -> None:
        """Open the data, and start to compare it with its manifest.

        Args:
            config: The run.
            ranks: The processes of the run. The first of each node compares the shards: another
                node may have another copy.
            data_rank: This process's number among the data-parallel ranks.
            data_degree: The number of data-parallel ranks.
            counts: Whether this rank's batches are counted: one rank of each model replica's.
            device: Where this rank computes.

        Raises:
            UserError, FileNotFoundError: the data cannot be used; see `SequenceDataset`, `Loader`.
        """
        self._config, self._ranks = config, ranks
        folder = config.data.folder
        self._loader = Loader(
            SequenceDataset(
                folder,
                sequence_length=config.data.sequence_length,
                absent=_remote_file(config) if config.data.remote else None,
            ),
            seed=config.run.seed,
            global_batch_sequences=config.training.global_batch_sequences,
            micro_batch_sequences=config.training.sequences_at_a_time,
            rank=data_rank,
            world_size=data_degree,
            head=config.model.head,
            question_weight=config.training.prompt_loss_weight,
            source_weights=config.data.source_weights,
            padded=keeps_padding(config, device),
            pinned=device.type == "cuda",
        )
        self._integrity = (
            Integrity(folder, url=config.data.remote) if ranks.local_rank == 0 else None
        )
        self._problem = ""
        self._counts = counts
        self._capacity_tokens = config.training.global_batch_sequences * config.data.sequence_length
        self._ahead: _Ahead | None = None
        self._consumed_sequences = 0
        if ranks.is_main:
            self._warn_of_repeats()

    def next_step(self, *, is_last: bool) -> Step:
        """This rank's micro-batches of the next step (all ranks call it).

        Args:
            is_last: No further step is prepared.
        """
        step, self._ahead = self._ahead or self._prepare(), None
        weight, tokens, supervised, attended, failed = step.sums()
        if not failed:
            self._consumed_sequences = step.consumed_sequences
            self._ahead = None if is_last else self._prepare()
        return Step(
            batches=step.batches,
            loss_normalizer=weight,
            counts=StepCounts(
                tokens=int(tokens),
                supervised=int(supervised),
                keys=int(attended),
                capacity_tokens=self._capacity_tokens,
            ),
            failed=bool(failed),
        )

    def _prepare(self) -> _Ahead:
        """Take the next batches from the loader, and begin to add up their counts."""
        batches: list[Batch] = []
        try:
            batches = self._loader.next_step()
        except Exception as error:
            if not is_for_people(error):
                raise
            self._problem = str(error)
        counted = batches if self._counts else []
        names = ("weight", "num_tokens", "num_supervised", "num_attended")
        counts = [sum(getattr(batch, name) for batch in counted) for name in names]
        return _Ahead(
            batches=batches,
            sums=self._ranks.start_sum([*counts, int(self.failed)]),
            consumed_sequences=self._loader.consumed_sequences,
        )

    def last_sequences(self) -> list[int]:
        """The indices of the sequences of the last step, over all ranks, in its order."""
        end = self._consumed_sequences
        start = end - self._config.training.global_batch_sequences
        return self._loader.order.indices(np.arange(start, end)).tolist()

    @property
    def failed(self) -> bool:
        """Whether this rank has met a problem, in reading or in comparing."""
        return bool(self._message())

    def raise_together(self) -> None:
        """Raise the first rank's problem on all ranks: a collective, called on all of them.

        Raises:
            DataError: always.
        """
        found = self._ranks.gather(self._message())
        rank = next(number for number, message in enumerate(found) if message)
        raise DataError(found[rank] if rank == self._ranks.rank else f"rank {rank}: {found[rank]}")

    def finish(self) -> None:
        """Wait until all shards are compared, of a remote folder those that are here: a collective.

        Raises:
            DataError: on all ranks: a shard differs from its manifest.
        """
        if self._integrity:
            self._integrity.wait()
        if any(self._ranks.gather(self.failed)):
            self.raise_together()

    def close(self) -> None:
        """End the threads."""
        self._loader.close()
        if self._integrity:
            self._integrity.close()

    def metrics(self) -> dict[str, float]:
        """Passes over the data and repeats so far; with weights those of each source."""
        consumed, order = self._consumed_sequences, self._loader.order
        found: dict[str, float] = {}
        counted = zip(order.epochs(consumed), order.repeated(consumed), strict=True)
        for source, (epochs, repeated) in enumerate(counted):
            suffix = f"/source_{source}" if len(order.sizes) > 1 else ""
            found[names.EPOCHS + suffix] = epochs
            found[names.REPEATED_FRACTION + suffix] = repeated
        return found

    def state_dict(self) -> dict[str, Any]:
        """See `Loader.state_dict`; after the last step that `next_step` returned."""
        return self._loader.state_dict() | {"consumed_sequences": self._consumed_sequences}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Loader.load_state_dict`."""
        self._loader.load_state_dict(state)
        self._consumed_sequences = self._loader.consumed_sequences

    def _message(self) -> str:
        return self._problem or (self._integrity.problem if self._integrity else "")

    def _warn_of_repeats(self) -> None:
        training, data = self._config.training, self._config.data
        order = self._loader.order
        for source, epochs in enumerate(
            order.epochs(training.max_steps * training.global_batch_sequences)
        ):
            if epochs > USEFUL_EPOCHS:
                name = f"data.sources.{source}" if data.source_weights else "the data"
                logger.warning(
                    f"training.max_steps = {training.max_steps:,} passes {epochs:.1f} times over "
                    f"{name} ({order.sizes[source]:,} sequences): beyond {USEFUL_EPOCHS} epochs, "
                    "repeated data adds less and less (arXiv 2305.16264)"
                )


def keeps_padding(config: TrainConfig, device: torch.device) -> bool:
    """Whether all micro-batches need one shape.

    A GPU's memory is reused where shapes repeat; a compiled block has one graph per shape; stages
    receive activations of a known shape; and sequence parallelism shards each sequence evenly.
    """
    return (
        device.type == "cuda"
        or config.training.compile
        or config.parallel.pipeline > 1
        or config.parallel.sequence_parallel
    )


def _remote_file(config: TrainConfig) -> Callable[[str], RemoteFile]:
    url, folder = config.data.remote, config.data.folder
    return lambda name: RemoteFile(url_of(url, name), folder / name)
