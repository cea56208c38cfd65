"""Writes checkpoints in a thread of each rank while training continues.

    writer = BackgroundWriter(store, ranks)
    writer.finish()                               # all ranks: one checkpoint at a time
    folder = store.begin(step)
    writer.start(step, folder, write=..., write_last=...)
    ... steps; `writer.failed` says whether this rank's thread has failed ...
    writer.finish()                               # all ranks: committed, or the error on all

Each rank writes its own files, flushes and hashes them, and sends their facts to rank 0. Once all
have, rank 0 writes the last files and commits.
"""

import threading
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path

from checkpoints.store import CheckpointStore, FileFacts, durable
from checkpoints.together import written_together
from parallel.ranks import Ranks
from parallel.thread_messages import ThreadMessages

WriteFiles = Callable[[Path], Iterable[Path]]
"""Writes files into a folder, and yields each once it is written."""

_SECONDS_TO_END = 60.0
"""After an error of the run: how long a checkpoint that is being written may still take."""

_numbers = count(1)
"""Each save has another key in the store. All ranks save equally often."""


class BackgroundWriter:
    """Writes one checkpoint at a time.

    Args:
        store: Commits them.
        ranks: The processes of the run, connected.
        heartbeat: Called after each file, from the thread.
    """

    def __init__(
        self, store: CheckpointStore, ranks: Ranks, *, heartbeat: Callable[[], None] = lambda: None
    ) -> None:
        self._store, self._ranks, self._heartbeat = store, ranks, heartbeat
        self._messages = ThreadMessages(ranks)
        self._thread: threading.Thread | None = None
        self._step = 0
        self._error: BaseException | None = None
        self._cancelled = threading.Event()

    @property
    def failed(self) -> bool:
        """Whether this rank's thread has failed: then all ranks must call `finish`."""
        return self._error is not None

    def start(self, step: int, folder: Path, *, write: WriteFiles, write_last: WriteFiles) -> None:
        """Begin to write a checkpoint (all ranks call it, after `finish`).

        Args:
            step: Updates that it has seen.
            folder: As `CheckpointStore.begin` made it.
            write: On each rank: writes this rank's files.
            write_last: On rank 0, when the files of all ranks are there.
        """
        assert self._thread is None
        self._step = step
        self._thread = threading.Thread(
            target=self._run,
            args=(f"save {next(_numbers)}", folder, write, write_last),
            name="checkpoint",
            daemon=True,
        )
        self._thread.start()

    def finish(self) -> None:
        """Wait until the checkpoint that is being written is committed (all ranks call it).

        Raises:
            NoSpace, NotWritten: on all ranks, where a rank could not write; names the rank. Older
                checkpoints are untouched.
        """
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        error, self._error = self._error, None
        with self._store.explaining(self._step), written_together(self._ranks):
            if error is not None:
                raise error

    def close(self) -> None:
        """End the thread. Where the run ended in an error, the checkpoint has a minute to end."""
        if self._thread is not None:
            self._thread.join(_SECONDS_TO_END)
            self._cancelled.set()
            self._thread.join(_SECONDS_TO_END)

    def _run(self, key: str, folder: Path, write: WriteFiles, write_last: WriteFiles) -> None:
        facts: dict[str, FileFacts] | None = None
        try:
            try:
                facts = self._written(folder, write)
            finally:
                self._messages.send(key, facts)
            if self._ranks.is_main:
                of_ranks = self._messages.receive(key, cancelled=self._cancelled.is_set)
                if None in of_ranks:  # that rank raises its error in `finish`
                    return
                facts = {name: fact for found in of_ranks for name, fact in found.items()}
                self._store.commit(folder, self._step, facts | self._written(folder, write_last))
        except BaseException as error:
            self._error = error

    def _written(self, folder: Path, write: WriteFiles) -> dict[str, FileFacts]:
        facts: dict[str, FileFacts] = {}
        for path in write(folder):
            facts[str(path.relative_to(folder))] = durable(path)
            self._heartbeat()
            if self._cancelled.is_set():
                raise InterruptedError("the run has ended")
        return facts
