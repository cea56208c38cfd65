"""Files and data sets of the Hugging Face hub, with messages for machines without it.

`files_of` fetches a few files into the hub's cache and gives their folder; `stream` reads
a data set row by row without storing it. Both raise DataError naming the setting to
change when the hub cannot be reached.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from training.errors import DataError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_FILE_ENDINGS = (".json", ".jsonl", ".parquet", ".gz", ".toml")


def local_path(path: str, setting: str) -> Path | None:
    """The local file or folder that `path` names, or None when it must be a hub id.

    Raises:
        DataError: nothing is there, and it does not look like a hub id either.
    """
    here = Path(path)
    if here.exists():
        return here
    if _HUB_ID.fullmatch(path) and here.suffix not in _FILE_ENDINGS:
        return None
    raise DataError(
        f"{setting} = {path!r}: there is no such file or folder"
        + ("" if here.is_absolute() else f" in {Path.cwd()}")
        + ", and a hub id has the form owner/name"
    )


def files_of(repository: str, patterns: Sequence[str], setting: str) -> Path:
    """A local folder with the repository's files that match `patterns`.

    Raises:
        DataError: the hub cannot be reached and its cache does not have them.
    """
    try:
        return Path(snapshot_download(repository, allow_patterns=list(patterns)))
    except Exception as error:  # the hub's client raises errors of four libraries
        raise _unreachable(repository, setting, error) from error


def stream(
    repository: str, *, name: str | None, split: str, setting: str
) -> Iterator[Mapping[str, Any]]:
    """The rows of a hub data set, in order, read while they arrive.

    Raises:
        DataError: the hub cannot be reached, or has no such data set or split.
    """
    from datasets import load_dataset  # slow to import, and local data does without

    try:
        rows = load_dataset(repository, name, split=split, streaming=True)
    except Exception as error:
        raise _unreachable(repository, setting, error) from error
    stream = iter(rows)
    while True:
        try:
            row = next(stream)
        except StopIteration:
            return
        except Exception as error:  # the network's, or damaged files
            raise _unreachable(repository, setting, error) from error
        yield row


def _unreachable(repository: str, setting: str, error: Exception) -> DataError:
    reason = " ".join(str(error).split())[:200]
    return DataError(
        f"{setting} = {repository!r} is no local path, and the hub does not give it "
        f"({type(error).__name__}: {reason}). Where there is no network, download it elsewhere "
        f"(`hf download {repository}`, with `--repo-type dataset` for data) and set {setting} "
        "to the folder"
    )
