"""What the trainer takes its batches from: the loader, with errors that all ranks share.

    batches = data.next_step()                   # empty where this rank met a problem
    ... sum `data.failed` over the ranks with the step's counts ...
    if any_failed: data.raise_together()

A damaged shard or a failed disk concerns one rank. It raises nothing at once: the ranks learn of it
with the numbers that they add up anyway, and leave the loop together.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from parallel.ranks import Ranks
from training.config import TrainConfig
from training.data.dataset import SequenceDataset
from training.data.integrity import Integrity
from training.data.loader import Loader
from training.data.micro_batch import Batch
from training.data.remote_folder import RemoteFile, url_of
from training.errors import DataError, is_for_people
from training.monitoring import names

logger = logging.getLogger(__name__)

USEFUL_EPOCHS = 4
"""Repeating data up to so often is about as good as new data (arXiv 2305.16264, section 5)."""


class StepBatches:
    """The micro-batches of each step of a run, on this rank."""

    def __init__(
        self,
        config: TrainConfig,
        ranks: Ranks,
        *,
        data_rank: int,
        data_degree: int,
        pinned: bool = False,
    ) -> None:
        """Open the data, and start to compare it with its manifest.

        Args:
            config: The run.
            ranks: The processes of the run. The first of each node compares the shards: another
                node may have another copy.
            data_rank: This process's number among the data-parallel ranks.
            data_degree: The number of data-parallel ranks.
            pinned: Make batches in pinned memory, for a GPU.

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
            pinned=pinned,
        )
        self._integrity = (
            Integrity(folder, url=config.data.remote) if ranks.local_rank == 0 else None
        )
        self._problem = ""
        if ranks.is_main:
            self._warn_of_repeats()

    def next_step(self) -> list[Batch]:
        """This rank's micro-batches of the next step; none if they cannot be read."""
        try:
            return self._loader.next_step()
        except Exception as error:
            if not is_for_people(error):
                raise
            self._problem = str(error)
            return []

    def last_sequences(self) -> list[int]:
        """The indices of the sequences of the last step, over all ranks, in its order."""
        end = self._loader.consumed_sequences
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
        consumed, order = self._loader.consumed_sequences, self._loader.order
        found: dict[str, float] = {}
        counted = zip(order.epochs(consumed), order.repeated(consumed), strict=True)
        for source, (epochs, repeated) in enumerate(counted):
            suffix = f"/source_{source}" if len(order.sizes) > 1 else ""
            found[names.EPOCHS + suffix] = epochs
            found[names.REPEATED_FRACTION + suffix] = repeated
        return found

    def state_dict(self) -> dict[str, Any]:
        """See `Loader.state_dict`."""
        return self._loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Loader.load_state_dict`."""
        self._loader.load_state_dict(state)

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


def _remote_file(config: TrainConfig) -> Callable[[str], RemoteFile]:
    url, folder = config.data.remote, config.data.folder
    return lambda name: RemoteFile(url_of(url, name), folder / name)
