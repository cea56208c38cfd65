"""A prepared data folder behind a URL, with `data.folder` as this node's copy of it.

    mirror(url, folder)                  # manifest and tokenizer, before training
    file = RemoteFile(url + name, path)  # a shard: read by ranges until its copy is complete

The shards are fetched while training runs (training/data/integrity.py).
"""

import tempfile
from pathlib import Path
from typing import Any

from training import files, manifest, remote, verification
from training.data.dataset import shards_of
from training.data.indexed import StoredFile
from training.errors import ConfigError, DamagedFileError, DataError


def mirror(url: str, folder: Path) -> None:
    """Copy all but the shards; what is in the folder already has to be the same.

    Raises:
        ConfigError: it is no URL.
        DataError: it cannot be read, or holds other data than the folder.
        DamagedFileError: its manifest, or a file that it lists, is damaged.
        FileExistsError: the folder holds something else.
    """
    path = folder / manifest.MANIFEST
    content = read_manifest(url)
    if path.is_file():
        if manifest.read(folder) != content:
            raise DataError(
                f"data.folder = {folder} is a copy of other data than data.remote = {url} holds "
                "now: set another data.folder, or remove this one"
            )
    else:
        if folder.exists() and any(folder.iterdir()):
            raise FileExistsError(
                f"data.folder = {folder} holds something that is no copy of data.remote = {url}: "
                "set another data.folder"
            )
        files.write_json(path, content)
    names = [name for name in content["outputs"] if name not in shards_of(content)]
    for name in names:
        if not (folder / name).is_file():
            remote.fetch(url_of(url, name), folder / name)
    if problems := verification.problems_of(folder, names):
        raise DamagedFileError(f"{verification.damaged(folder, problems)} (from {url})")


def read_manifest(url: str) -> dict[str, Any]:
    """The manifest behind a URL, its form checked as `manifest.read` does. Raises as `mirror`."""
    if not remote.is_url(url):
        raise ConfigError(f"data.remote = {url!r} is no URL of a prepared data folder")
    with tempfile.TemporaryDirectory() as scratch:
        remote.fetch(url_of(url, manifest.MANIFEST), Path(scratch) / manifest.MANIFEST)
        try:
            return manifest.read(Path(scratch))
        except DamagedFileError as error:
            raise DamagedFileError(f"data.remote = {url}: its manifest is damaged") from error


def url_of(url: str, name: str) -> str:
    """The URL of a file of the folder."""
    return f"{url.rstrip('/')}/{name}"


class RemoteFile:
    """A shard's file behind a URL, read from this node's copy once that is complete."""

    def __init__(self, url: str, path: Path) -> None:
        """Nothing is read yet.

        Args:
            url: The file.
            path: Where its copy will be.
        """
        self._url, self._path = url, path
        self._copy: StoredFile | None = None

    @property
    def name(self) -> str:
        """The copy's path, or the URL."""
        return str(self._path) if self._copy else self._url

    def read(self, offset: int, size: int) -> bytes:
        """Read exactly `size` bytes from `offset` on.

        Raises:
            DamagedFileError: the copy ends before.
            DataError: the file behind the URL is missing or shorter, or cannot be reached.
        """
        if self._copy is None and self._path.is_file():
            self._copy = StoredFile(self._path)
        if self._copy is not None:
            return self._copy.read(offset, size)
        return remote.read_range(self._url, offset, offset + size)
