"""Saves a running engine: what a checkpoint holds, copied and written while training continues.

    saver = Saver(config, engine, store, tokenizer)
    saver.save(state)        # all ranks, between two steps
    ... the next steps ...
    saver.finish()           # all ranks; the checkpoint is committed

Weights and moments change in an update only: those that a rank holds whole are copied during the
next step's forward and backward passes, and that step's update waits for the copies. Those that
ranks have to exchange are copied before `save` returns.

A checkpoint holds the training state (`universal.py`), the model as a Hugging Face folder with its
tokenizer, and the train state. The copies stay allocated from one save to the next: 12 bytes of
CPU memory per parameter, divided by the ranks.
"""

import copy
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from checkpoints import universal
from checkpoints.background import BackgroundWriter
from checkpoints.store import CheckpointStore
from parallel.engine import Engine
from training.config import TrainConfig
from training.data.tokenizer import FOLDER as TOKENIZER_FOLDER
from training.data.tokenizer import Tokenizer
from training.models import huggingface
from training.models.build import WEIGHTS, parameter_sizes, shape_of
from training.train_state import TrainState


class Saver:
    """Saves checkpoints of one engine.

    Args:
        config: The run.
        engine: The engine.
        store: Where they are committed.
        tokenizer: The one that is trained with.
        heartbeat: Called after each file, from the thread that writes.
    """

    def __init__(
        self,
        config: TrainConfig,
        engine: Engine,
        store: CheckpointStore,
        tokenizer: Tokenizer,
        *,
        heartbeat: Callable[[], None],
    ) -> None:
        self._config, self._engine, self._store = config, engine, store
        self._tokenizer = tokenizer
        self._writer = BackgroundWriter(store, engine.groups.ranks, heartbeat=heartbeat)
        self._copies: universal.Copies = {}
        self._copied = threading.Event()
        self._copied.set()
        engine.before_update(self._copied.wait)
        self._parameters = parameter_sizes(config.model)

    @property
    def failed(self) -> bool:
        """Whether this rank could not write: then all ranks must call `finish`."""
        return self._writer.failed

    def save(self, state: TrainState) -> None:
        """Begin a checkpoint (all ranks call it). Waits for an earlier one that is being written.

        Raises:
            NoSpace, NotWritten: on all ranks: the earlier one could not be written, or there is
                no room for this one.
        """
        self.finish()
        is_main = self._engine.groups.ranks.is_main  # which checks the room
        folder = self._store.begin(state.step, sizes=self._file_sizes() if is_main else ())
        copy_later = universal.copy(self._engine, self._copies)
        state = copy.deepcopy(state)  # the loop changes it
        self._copied.clear()
        self._writer.start(
            state.step,
            folder,
            write=lambda folder: self._write_states(folder, copy_later),
            write_last=lambda folder: self._write_model(folder, state),
        )

    def finish(self) -> None:
        """Wait until the last checkpoint is committed (all ranks call it).

        Raises:
            NoSpace, NotWritten: on all ranks: it could not be written.
        """
        self._writer.finish()

    def close(self) -> None:
        """End the thread that writes."""
        self._writer.close()

    def _write_states(self, folder: Path, copy_later: Callable[[], None]) -> Iterator[Path]:
        try:
            copy_later()
        finally:
            self._copied.set()  # the update of the next step may begin
        yield from universal.write(folder, self._copies, self._config.model.head)

    def _write_model(self, folder: Path, state: TrainState) -> Iterator[Path]:
        """The model's folder and the train state. The weights are those of `universal.write`."""
        head = self._config.model.head
        huggingface.write_folder(
            folder / WEIGHTS,
            shape_of(self._config.model),
            head,
            universal.weights(folder, self._parameters),
            dtype=self._engine.dtype,
            end_token=self._tokenizer.end_token,
            pad_token=self._tokenizer.pad_token(head),
        )
        self._tokenizer.save(folder / WEIGHTS, head=head)
        yield from sorted(path for path in (folder / WEIGHTS).rglob("*") if path.is_file())
        yield state.save(folder)

    def _file_sizes(self) -> list[int]:
        """Bytes of each file of a checkpoint, estimated."""
        states = universal.file_sizes(self._parameters)
        weights = sum(size.numel() for size in self._parameters.values())
        prepared = (self._config.data.folder / TOKENIZER_FOLDER).iterdir()
        tokenizer = [path.stat().st_size for path in prepared]
        # Lists of all files and all tensors take about 200 bytes per entry.
        lists = [200 * len(states), 4096, 4096, 4096]
        return [*states, weights * self._engine.dtype.itemsize, *tokenizer, *lists]
