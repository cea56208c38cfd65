"""Compares the shards of a data folder with its manifest while training runs.

    integrity = Integrity(folder)
    ... a step; then:
    if integrity.problem: ...

Shards that the folder lacks are fetched before they are compared, where it is a copy of a remote
one: the small index files first.

Sizes are compared when the folder is opened; comparing contents reads every byte, several minutes
for a large set on a slow disk, so that a thread does it beside the first steps.
"""

import threading
from pathlib import Path

from training import manifest, remote, verification
from training.data.dataset import shards_of
from training.data.remote_folder import url_of
from training.errors import UserError


class Integrity:
    """One comparison of all shards, in a thread that `close` ends."""

    def __init__(self, folder: Path, *, url: str = "") -> None:
        """Start.

        Args:
            folder: A data folder with its manifest.
            url: The folder that it is a copy of; empty: none.
        """
        self.problem = ""
        """What is wrong, once it is found; empty: nothing so far."""
        self._folder, self._url = folder, url
        names = sorted(shards_of(manifest.read(folder)))
        self._names = sorted(names, key=lambda name: not name.endswith(".idx"))
        self._closed, self._fetches_no_more = threading.Event(), threading.Event()
        # A daemon: a process that ends does not wait for a slow disk.
        self._thread = threading.Thread(target=self._compare, name="integrity", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until all shards that are here are compared; no further one is fetched."""
        self._fetches_no_more.set()
        self._thread.join()

    def close(self) -> None:
        """End after the file that is being read, without waiting for that."""
        self._closed.set()

    def _compare(self) -> None:
        for name in self._names:
            if self._closed.is_set():
                return
            is_absent = bool(self._url) and not (self._folder / name).exists()
            if is_absent and self._fetches_no_more.is_set():
                continue
            if problem := (self._fetched(name) if is_absent else "") or self._problem_of(name):
                self.problem = problem
                return

    def _fetched(self, name: str) -> str:
        """Fetch a shard; what is wrong, or nothing."""
        try:
            remote.fetch(url_of(self._url, name), self._folder / name)
        except (OSError, UserError) as error:
            return str(error)
        return ""

    def _problem_of(self, name: str) -> str:
        """Compare a shard; what is wrong, or nothing."""
        problems = verification.problems_of(self._folder, [name])
        if not problems:
            return ""
        mend = "prepare the data again, or restore the file from a copy"
        if self._url:
            mend = (
                f"remove the file to fetch it from data.remote = {self._url} again, which may "
                "hold other data by now"
            )
        return f"data.folder = {self._folder} is damaged: {problems[0]}; {mend}"
