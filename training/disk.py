"""Disk space: checked before something large is written, reported when it runs out.

    require(folder, sizes, what="the checkpoint of step 100")
    with reported(path, num_bytes):
        ...                              # writes the file

What libraries raise when a disk is full differs: OSError with or without a file's name, their
own errors, a RuntimeError of torch's. Here it becomes a `NoSpace` that says which file it was,
how many bytes it takes, and how many are free.
"""

import errno
import os
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_FULL = (errno.ENOSPC, errno.EDQUOT)


class NotWritten(OSError):
    """A file could not be written; the message is for a person."""

    def __init__(self, message: str, number: int | None) -> None:
        """Args: what a person reads; the system's number of the error."""
        super().__init__(number, message)

    def __str__(self) -> str:
        return str(self.args[1])

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes and other ranks send it; OSError's own way would swap the two.
        return type(self), (self.args[1], self.args[0])


class NoSpace(NotWritten):
    """A disk or a quota is full."""


def error_of(message: str, number: int | None) -> NotWritten:
    """The error of a file that could not be written, by the system's number."""
    return (NoSpace if number in _FULL else NotWritten)(message, number)


def require(folder: Path, sizes: Sequence[int], *, what: str, num_folders: int = 1) -> None:
    """Check that files can be written below a folder, before the first of them is.

    An estimate: others may write there too, and quotas are not seen.

    Args:
        folder: It or the nearest folder above it that is there says how much is free.
        sizes: Bytes of each file.
        what: Of the message: `the checkpoint of step 100`.
        num_folders: Folders that are made for them.

    Raises:
        NoSpace: bytes or inodes are missing.
    """
    place = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    facts = os.statvfs(place)
    block = facts.f_frsize or 1
    needed = sum(-(-size // block) * block for size in sizes)
    free = facts.f_bavail * block
    if needed > free:
        raise NoSpace(
            f"{what} takes about {needed:,} bytes in {folder}, where {free:,} are free: free "
            f"{needed - free:,} bytes or more",
            errno.ENOSPC,
        )
    num_inodes = len(sizes) + num_folders
    # File systems that do not limit inodes report none at all.
    if facts.f_files and num_inodes > facts.f_favail:
        raise NoSpace(
            f"{what} takes {num_inodes:,} files and folders in {folder}, where {facts.f_favail:,} "
            "more (inodes) can be made: remove some",
            errno.ENOSPC,
        )


@contextmanager
def reported(path: Path, num_bytes: int | None = None) -> Generator[None, None, None]:
    """Turn the error of a write within the block into one that says which file it met.

    Args:
        path: The file, or the folder, that is written.
        num_bytes: What the file takes, where that is known.

    Raises:
        NoSpace: the disk or the quota is full.
        NotWritten: the system refused the write, and the library that met it raises no OSError.
    """
    try:
        yield
    except NoSpace:
        raise
    except Exception as error:
        number = _number(error)
        if number is None or (number not in _FULL and isinstance(error, OSError)):
            raise
        if number not in _FULL:
            raise NotWritten(f"{path} cannot be written: {os.strerror(number)}", number) from error
        needs = "" if num_bytes is None else f" takes {num_bytes:,} bytes and"
        quota = ", and a quota is exceeded" if number == errno.EDQUOT else ""
        raise NoSpace(
            f"no space left: {path}{needs} could not be written; {_free(path)} bytes are free "
            f"there{quota}",
            number,
        ) from error


def save_torch(content: Any, path: Path, *, num_bytes: int) -> None:
    """`torch.save`, whose own error of a full disk hides the system's. Raises NoSpace."""
    import torch

    with reported(path, num_bytes), path.open("wb") as stream:
        try:
            torch.save(content, stream)
        except RuntimeError as error:
            # torch ends its zip file although a write has failed; the end is then at the wrong
            # place ("unexpected pos"), and that is raised while the system's error is handled.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def _number(error: Exception) -> int | None:
    """The system's number of an error; libraries in Rust have it in their text."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found.group(1)) if found else None


def _free(path: Path) -> str:
    place = next(folder for folder in path.absolute().parents if folder.is_dir())
    facts = os.statvfs(place)
    return f"{facts.f_bavail * facts.f_frsize:,}"
