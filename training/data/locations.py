"""Where the files of a source or a benchmark are: a folder, the Hugging Face hub, or a URL.

    location = located("s3://bucket/tinygsm", setting="path of a source", endings=(".parquet",))
    files = Files(location, tables.chosen(location.names, what=..., split="train"))
    files.fingerprint()                    # without fetching anything
    for shown, path in files.each(): ...   # each once it is here, while the next one is fetched

Files of the hub stay in the hub's own cache. Those of a URL stay in `FetchCache`, up to its limit.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import urlsplit

from training import files, hub, manifest, remote
from training.config.sources import DEFAULT_CACHE_GIB
from training.data import tables
from training.errors import DataError, UserError

_PARTIAL_SECONDS = 86_400
"""A partial download that nobody has written to for so long may be removed."""


class Location(Protocol):
    """Files that can be had by their names."""

    @property
    def names(self) -> Sequence[str]:
        """Paths of all files, relative to the location."""
        ...

    @property
    def is_file(self) -> bool:
        """Whether it is a single file, named by the user."""
        ...

    def shown(self, name: str) -> str:
        """How messages call a file."""
        ...

    def facts(self, name: str) -> object:
        """What changes when the file changes; cheap."""
        ...

    def path(self, name: str) -> Path:
        """A local copy, fetched if there is none.

        Raises:
            DataError: it cannot be had.
        """
        ...

    def fingerprint(self, names: Sequence[str]) -> str:
        """A digest of these files: of their content, or of what identifies it."""
        ...


@dataclass(frozen=True)
class Folder:
    """A folder or a file of this machine."""

    root: Path

    @property
    def names(self) -> Sequence[str]:
        """Paths of all files below it; its own name if it is a file."""
        if self.is_file:
            return [self.root.name]
        found = (path for path in self.root.rglob("*") if path.is_file())
        return [path.relative_to(self.root).as_posix() for path in found]

    @property
    def is_file(self) -> bool:
        """Whether it is a file."""
        return self.root.is_file()

    def shown(self, name: str) -> str:
        """Its path."""
        return str(self.path(name))

    def facts(self, name: str) -> object:
        """Size and time of the last change."""
        found = self.path(name).stat()
        return found.st_size, found.st_mtime_ns

    def path(self, name: str) -> Path:
        """Its path."""
        return self.root if self.is_file else self.root / name

    def fingerprint(self, names: Sequence[str]) -> str:
        """A digest of names and contents."""
        return files.sha256_json({name: manifest.fingerprint(self.path(name)) for name in names})


@dataclass(frozen=True)
class Repository:
    """One commit of a data set on the Hugging Face hub."""

    snapshot: hub.Snapshot
    is_file = False

    @property
    def names(self) -> Sequence[str]:
        """Paths of all files of the commit."""
        return self.snapshot.names

    def shown(self, name: str) -> str:
        """Repository and path."""
        return f"{self.snapshot.repository}/{name}"

    def facts(self, name: str) -> object:
        """A file of a commit never changes."""
        return self.snapshot.commit

    def path(self, name: str) -> Path:
        """Its path in the hub's cache."""
        return self.snapshot.path(name)

    def fingerprint(self, names: Sequence[str]) -> str:
        """A digest of commit and names."""
        return files.sha256_json({"commit": self.snapshot.commit, "files": list(names)})


@dataclass(frozen=True)
class FetchCache:
    """A folder of fetched files. Those that were used longest ago are removed above its limit."""

    folder: Path
    max_bytes: int

    @classmethod
    def from_settings(cls, folder: str = "", gib: int = DEFAULT_CACHE_GIB) -> "FetchCache":
        """The cache in a folder, or in the user's folder of caches."""
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cls(Path(folder) if folder else caches / "tinygsm", gib << 30)

    def path(self, url: str, facts: remote.Facts) -> Path:
        """A copy of this version of a file, fetched if there is none. Raises as `remote.fetch`."""
        label = files.sha256_json([url, facts.size, facts.version])[:32]
        path = self.folder / label / _name_of(url)
        if not path.is_file():
            self._make_room(facts.size)
            remote.fetch(url, path, expected=facts)
        now = time.time_ns()  # finer than the clock of the file system
        with suppress(FileNotFoundError):
            os.utime(path, ns=(now, now))
        return path

    def _make_room(self, num_bytes: int) -> None:
        found: list[tuple[float, int, Path]] = []
        for path in self.folder.glob("*/*"):
            with suppress(FileNotFoundError):  # another process removed it
                about = path.stat()
                is_partial = path.name.startswith(".")
                if is_partial and time.time() - about.st_mtime < _PARTIAL_SECONDS:
                    continue  # another process may be fetching it
                found.append((about.st_mtime, about.st_size, path))
        total = sum(size for _, size, _ in found) + num_bytes
        # The newest is what the caller is reading while it fetches the next one.
        for _, size, path in sorted(found)[:-1]:
            if total <= self.max_bytes:
                break
            path.unlink(missing_ok=True)
            with suppress(OSError):
                path.parent.rmdir()
            total -= size


@dataclass(frozen=True)
class Remote:
    """A file or a folder behind a URL."""

    url: str
    cache: FetchCache
    listed: dict[str, remote.Facts | None] = field(default_factory=dict[str, remote.Facts | None])
    """Names with their facts, as far as they are known."""

    @classmethod
    def from_url(cls, url: str, cache: FetchCache, *, is_file: bool) -> "Remote":
        """Look at the file, or list the folder.

        Raises:
            DataError: it cannot be reached, or there is nothing.
        """
        if is_file:
            return cls(url, cache, {"": remote.facts(url)})
        folder = url.rstrip("/") + "/"
        listed = remote.files_below(folder)
        return cls(folder, cache, {name.removeprefix(folder): listed[name] for name in listed})

    @property
    def names(self) -> Sequence[str]:
        """Paths of all files below it; its own name if it is a file."""
        return list(self.listed)

    @property
    def is_file(self) -> bool:
        """Whether it is a file."""
        return "" in self.listed

    def shown(self, name: str) -> str:
        """Its URL."""
        return self.url + name

    def facts(self, name: str) -> remote.Facts:
        """Size and version when the source was opened. `remote.fetch` refuses any other."""
        found = self.listed[name]
        if found is None:
            found = self.listed[name] = remote.facts(self.shown(name))
        return found

    def path(self, name: str) -> Path:
        """Its path in the cache."""
        return self.cache.path(self.shown(name), self.facts(name))

    def fingerprint(self, names: Sequence[str]) -> str:
        """A digest of names, sizes and versions."""
        found = {name: self.facts(name) for name in names}
        return files.sha256_json({name: [each.size, each.version] for name, each in found.items()})


@dataclass(frozen=True)
class Files:
    """Some files of a location, in the order in which they are read."""

    location: Location
    names: Sequence[str]

    def fingerprint(self) -> str:
        """A digest of these files, without fetching any."""
        return self.location.fingerprint(self.names)

    def local_paths(self) -> list[Path]:
        """Those that are on this machine without a cache."""
        if not isinstance(self.location, Folder):
            return []
        return [self.location.path(name) for name in self.names]

    def each(self) -> Iterator[tuple[str, Path]]:
        """How messages call each file, and its path; the next file is fetched meanwhile.

        Raises:
            DataError: a file cannot be had, or has changed since the first one was read.
        """
        before = [self.location.facts(name) for name in self.names]
        for number, name in enumerate(self.names):
            path = self.location.path(name)
            ahead = _in_background(self.location.path, self.names[number + 1 : number + 2])
            yield self.location.shown(name), path
            if self.location.facts(name) != before[number]:
                raise DataError(
                    f"{self.location.shown(name)} has changed while it was read. Start again when "
                    "it is complete"
                )
            if ahead is not None:
                ahead.join()


def _in_background(fetch: Callable[[str], Path], names: Sequence[str]) -> threading.Thread | None:
    """Fetch these files; an error is left to the caller who needs the file and asks again."""

    def run() -> None:
        for name in names:
            with suppress(OSError, UserError):
                fetch(name)

    if not names:
        return None
    # A daemon: the end of the process does not wait for a file that nobody reads.
    thread = threading.Thread(target=run, name="fetch", daemon=True)
    thread.start()
    return thread


def located(
    path: str,
    *,
    setting: str,
    endings: tuple[str, ...],
    revision: str = "",
    cache: FetchCache | None = None,
    offline: bool = False,
) -> Location:
    """The folder, data set or URL that a path names.

    Args:
        path: A local path, a hub id or a URL.
        setting: The setting that holds it, for messages.
        endings: Endings of the files to be read.
        revision: Of a hub id: commit, tag or branch; empty: the main branch.
        cache: Where files of a URL go; None: the user's folder of caches.
        offline: Of a hub id: ask the hub's cache alone.

    Raises:
        DataError: there is no such thing, or it cannot be reached.
    """
    if remote.is_url(path):
        found = cache or FetchCache.from_settings()
        return Remote.from_url(path, found, is_file=_name_of(path).endswith(endings))
    local = hub.local_path(path, setting)
    if local is not None:
        return Folder(local)
    patterns = [f"*{ending}" for ending in endings]
    return Repository(
        hub.snapshot(path, revision=revision, patterns=patterns, setting=setting, offline=offline)
    )


def _name_of(url: str) -> str:
    return PurePosixPath(urlsplit(url).path).name


def chosen(
    location: Location, *, what: str, split: str, endings: tuple[str, ...], folder: str = ""
) -> Files:
    """The files of a location that hold one split. Raises as the functions of `tables`.

    Args:
        location: Where the files are.
        what: The setting and its value, for messages.
        split: The split.
        endings: Endings of the files to be read.
        folder: If the location has a folder of this name, only what is in it counts.
    """
    if location.is_file:
        (name,) = location.names
        tables.refuse_unfit(_name_of(location.shown(name)), what=what, split=split, endings=endings)
        return Files(location, [name])
    names = [name for name in location.names if name.startswith(f"{folder}/")] if folder else []
    found = tables.chosen(names or location.names, what=what, split=split, endings=endings)
    return Files(location, found)
