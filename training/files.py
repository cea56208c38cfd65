"""Atomic, durable writing of files; hashing; JSON.

A file is written beside its final path, flushed to disk, and renamed; the folder's entry is
flushed too. After a crash a reader finds the old file or the new one.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from training.disk import reported
from training.errors import DamagedFileError


def sync(path: Path) -> None:
    """Flush a file's or a folder's content to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with reported(path):  # where a file system finds room for what was written only now
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Generator[Path, None, None]:
    """Yield a temporary path; when the block ends well it durably becomes `path`.

    When the block raises, the temporary file is removed and `path` stays as it was.

    Raises:
        NoSpace: the disk is full.
    """
    # Random: processes of other nodes, whose ids may be ours, may write the same file.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with reported(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def refuse_existing(path: Path) -> None:
    """Refuse to write a new file where something is; an empty file may be replaced.

    Raises:
        FileExistsError: a file with content, a link, or no file (a folder, `/dev/null`).
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise FileExistsError(f"{path} is there and is not a plain file: name another file")
    if path.is_file() and path.stat().st_size:
        raise FileExistsError(f"{path} is there already: name another file, or remove it")


def write_json(path: Path, content: Any) -> None:
    """Durably write JSON, indented, replacing what was there."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        DamagedFileError: the file is not JSON, or cannot be read; the message names it.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedFileError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path} is not valid JSON: {error}") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object. Raises as `read_json`, and for any other value."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise DamagedFileError(f"{path} holds {_kind(content)}, not a JSON object")
    return cast("dict[str, Any]", content)


def _kind(content: Any) -> str:
    """A JSON value's type, in JSON's words."""
    words = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return words.get(type(content), "a number")


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_json(content: Any) -> str:
    """SHA-256 of JSON-ready data, independent of the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
