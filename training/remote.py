"""Reads files by URL: `https://`, `s3://`, `gs://`, `hf://` and whatever else fsspec knows.

    now = facts("s3://bucket/train-00000.parquet")      # size, and the version of the content
    fetch("s3://bucket/train-00000.parquet", path, expected=now)
    read_range("s3://bucket/train-00000.parquet", 0, 4)

A request that fails is repeated with growing pauses. `fetch` resumes a partial download, also that
of another process, and raises where the source changes meanwhile. Credentials are those that each
store's client finds itself, for example `AWS_ENDPOINT_URL` and `AWS_ACCESS_KEY_ID`.
"""

import fcntl
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from training.disk import reported
from training.errors import DataError
from training.files import sha256_json, sync

Result = TypeVar("Result")

_SCHEMES = ("http", "https", "s3", "gs", "hf", "file", "memory")
_VERSIONS = ("ETag", "etag", "sha256", "blob_id", "Last-Modified", "mtime", "created")
"""What stores call the version of a content, the most exact first."""
_PIECE_BYTES = 1 << 24
_NUM_ATTEMPTS = 6
_FIRST_PAUSE_SECONDS = 0.5
_STALLED_SECONDS = 60
_REQUEST_ERRORS = range(400, 500)
_TEMPORARY = (408, 425, 429)
"""The HTTP statuses among `_REQUEST_ERRORS` that may be gone the next time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What tells one content of a file from another, without reading it."""

    size: int
    """Bytes."""
    version: str
    """ETag, checksum or time of the last change; empty if the store gives none."""


def is_url(text: str) -> bool:
    """Whether the text is a URL that can be read here, rather than a path."""
    scheme, separator, rest = text.partition("://")
    return bool(separator and rest) and scheme in _SCHEMES


def facts(url: str) -> Facts:
    """Size and version of a file.

    Raises:
        DataError: there is no such file, or its store cannot be reached.
    """

    def found() -> dict[str, Any]:
        store, path = _opened(url)
        store.invalidate_cache(path)  # stores keep listings, which hide a change
        return store.info(path)

    return _facts(url, _repeated(url, found))


def files_below(url: str) -> dict[str, Facts | None]:
    """All files of a folder: their URLs, sorted; None where the listing gives no facts.

    Raises:
        DataError: there is no such folder, or its store cannot be reached or cannot list it.
    """
    listed = _repeated(url, lambda: dict(_listed(*_opened(url))))
    return {
        name: None if entry.get("size") is None else _facts(name, entry)
        for name, entry in sorted(listed.items())
    }


def read_range(url: str, start: int, end: int) -> bytes:
    """The bytes from `start` to before `end`.

    Raises:
        DataError: the file is missing or shorter, or its store cannot be reached.
    """

    def read() -> bytes:
        store, path = _opened(url)
        content = store.cat_file(path, start=start, end=end)
        if len(content) == end - start:
            return content
        if len(content) > end - start:
            raise DataError(
                f"{url}: the server sent {len(content):,} bytes where {end - start:,} were asked "
                "for: it does not support ranges, or the file is compressed on the way"
            )
        raise ConnectionError(f"{len(content):,} of {end - start:,} bytes from {start:,} arrived")

    return _repeated(url, read) if end > start else b""


def fetch(url: str, path: Path, *, expected: Facts | None = None) -> Facts:
    """Download a file; what another process has fetched of it already is not fetched again.

    Args:
        url: The file.
        path: Where it goes. It appears as a whole, or stays as it was.
        expected: What the file has to be.

    Returns:
        Size and version of what was fetched.

    Raises:
        DataError: the file is missing, is not the expected one, changes while it is fetched, or
            its store cannot be reached.
        NoSpace: the disk is full.
    """
    now = facts(url)
    if expected is not None:
        _refuse_change(url, expected, now)
    # Named by the version: what was fetched of another one is not continued.
    label = sha256_json([url, asdict(now)])[:16]
    partial = path.with_name(f".{path.name}.{label}.partial")
    with reported(path, now.size):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(partial, path) as stream:
            if _is_same_file(stream, path):
                return now  # another process completed it while this one waited
            for position in range(stream.seek(0, os.SEEK_END), now.size, _PIECE_BYTES):
                end = min(position + _PIECE_BYTES, now.size)
                stream.write(read_range(url, position, end))
            stream.flush()
            try:
                _refuse_change(url, now, facts(url))
            except DataError:
                partial.unlink()
                raise
            sync(partial)
            os.replace(partial, path)
            sync(path.parent)
    return now


@contextmanager
def _locked(partial: Path, path: Path) -> Generator[IO[bytes], None, None]:
    """The partial file, opened to append; another process that has it open is waited for.

    If that process completes it, it is the file at `path` by then.
    """
    while True:
        with partial.open("ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if _is_same_file(stream, partial) or _is_same_file(stream, path):
                yield stream
                return


def _is_same_file(stream: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _refuse_change(url: str, before: Facts, now: Facts) -> None:
    if now != before:
        raise DataError(
            f"{url} has changed: it had {before.size:,} bytes ({before.version or 'no version'}), "
            f"and has {now.size:,} ({now.version or 'no version'}). Start again when it is complete"
        )


def _facts(url: str, entry: dict[str, Any]) -> Facts:
    size = entry.get("size")
    if entry.get("type") == "directory" or not isinstance(size, int):
        raise DataError(f"{url} is no file whose size its store gives")
    version = next((str(entry[key]) for key in _VERSIONS if entry.get(key)), "")
    return Facts(size=size, version=version)


def _listed(store: Any, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The files below a folder. fsspec's own `find` leaves out what it fails to list."""
    store.invalidate_cache(folder)
    for entry in store.ls(folder, detail=True):
        if entry["type"] == "directory":
            yield from _listed(store, entry["name"])
        elif entry["name"].rstrip("/") != folder.rstrip("/"):  # S3 lists a folder's own marker
            yield store.unstrip_protocol(entry["name"]), entry


def _opened(url: str) -> tuple[Any, str]:
    """The store of a URL, and the path in it."""
    import fsspec  # slow to import, and local data does without

    scheme = url.partition("://")[0]
    options: dict[str, Any] = {}
    if scheme in ("http", "https"):
        # Its own limit is five minutes for a request, however much it still sends.
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(sock_connect=_STALLED_SECONDS, sock_read=_STALLED_SECONDS)
        options = {"client_kwargs": {"timeout": timeout}}
    return fsspec.core.url_to_fs(url, **options)


def _repeated(url: str, request: Callable[[], Result]) -> Result:
    """The result of a request, which is repeated while the network or the store fails."""
    pause = _FIRST_PAUSE_SECONDS
    for left in reversed(range(_NUM_ATTEMPTS)):
        try:
            return request()
        except ImportError as error:
            raise DataError(f"{url} needs a package that is not installed: {error}") from error
        except DataError:
            raise
        except Exception as error:  # each store's client has errors of its own
            if not left or _is_final(error):
                raise DataError(f"{url} cannot be read ({_reason(error)})") from error
        time.sleep(pause)
        pause *= 2
    raise AssertionError("the last attempt returns or raises")


def _is_final(error: BaseException) -> bool:
    """Whether asking again will give the same error."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and cause is not None:
        # fsspec's form of every failure to ask an HTTP server for a file's size.
        return _is_final(cause)
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status in _REQUEST_ERRORS and status not in _TEMPORARY
    return isinstance(error, (FileNotFoundError, PermissionError, NotADirectoryError, ValueError))


def _reason(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error, FileNotFoundError) else None
    shown = cause or error
    return f"{type(shown).__name__}: {' '.join(str(shown).split())[:200]}"
