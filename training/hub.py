"""Downloads from the Hugging Face hub: files of models and tokenizers, rows of data sets.

    path = local_path(source, "data.tokenizer.source")    # None: `source` is a hub id
    folder = files_of("microsoft/phi-1_5", ["config.json", "*.safetensors"], setting)
    for row in stream("openai/gsm8k", name="main", split="train", setting=setting): ...

`files_of` downloads into the hub's cache; `stream` stores nothing. Both raise an error that names
the setting to change where the hub cannot be reached.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from training.errors import DataError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_FILE_ENDINGS = (".json", ".jsonl", ".parquet", ".gz", ".toml")


def is_hub_id(text: str) -> bool:
    """Whether the text has the form of a hub id, `owner/name`."""
    return _HUB_ID.fullmatch(text) is not None


def local_path(path: str, setting: str) -> Path | None:
    """The local file or folder that `path` names; None if it can only be a hub id.

    Raises:
        DataError: there is no such file or folder, and it has not the form of a hub id.
    """
    here = Path(path)
    if here.exists():
        return here
    if is_hub_id(path) and here.suffix not in _FILE_ENDINGS:
        return None
    raise DataError(
        f"{setting} = {path!r}: there is no such file or folder"
        + ("" if here.is_absolute() else f" in {Path.cwd()}")
        + ", and a hub id has the form owner/name"
    )


def files_of(repository: str, patterns: Sequence[str], setting: str) -> Path:
    """A local folder with the repository's files that match `patterns`.

    Raises:
        DataError: the hub cannot be reached and its cache does not hold them.
    """
    try:
        return Path(snapshot_download(repository, allow_patterns=list(patterns)))
    except Exception as error:  # the hub's client raises errors of four libraries
        raise _unreachable(repository, setting, error) from error


def stream(
    repository: str, *, name: str | None, split: str, setting: str
) -> Iterator[Mapping[str, Any]]:
    """The rows of a hub data set in order, each read as it arrives.

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
