"""Compares the shards of a data folder with its manifest while training runs.

    integrity = Integrity(folder)
    ... a step; then:
    if integrity.problem: ...

Sizes are compared when the folder is opened; comparing contents reads every byte, several minutes
for a large set on a slow disk, so that a thread does it beside the first steps.
"""

import threading
from pathlib import Path

from training import manifest, verification
from training.data.dataset import shards_of


class Integrity:
    """One comparison of all shards, in a thread that `close` ends."""

    def __init__(self, folder: Path) -> None:
        """Start.

        Args:
            folder: A data folder with its manifest.
        """
        self.problem = ""
        """What is wrong, once it is found; empty: nothing so far."""
        self._folder = folder
        self._names = sorted(shards_of(manifest.read(folder)))
        self._closed = threading.Event()
        # A daemon: a process that ends does not wait for a slow disk.
        self._thread = threading.Thread(target=self._compare, name="integrity", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for the end of the comparison."""
        self._thread.join()

    def close(self) -> None:
        """End after the file that is being read, without waiting for that."""
        self._closed.set()

    def _compare(self) -> None:
        for name in self._names:
            if self._closed.is_set():
                return
            if problems := verification.problems_of(self._folder, [name]):
                self.problem = (
                    f"data.folder = {self._folder} is damaged: {problems[0]}; prepare the data "
                    "again, or restore the file from a copy"
                )
                return
