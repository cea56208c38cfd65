"""Downloads from the Hugging Face hub: files of models, tokenizers and data sets.

    path = local_path(source, "data.tokenizer.source")    # None: `source` is a hub id
    folder = files_of("microsoft/phi-1_5", ["config.json", "*.safetensors"], setting)
    data = snapshot("openai/gsm8k", revision="", patterns=["*.parquet"], setting=setting)
    path = data.path(data.names[0])

Everything goes through the hub's cache (`HF_HOME`), which is all that is needed where there is no
network. An error names the setting to change.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub  # imports what is used of it, when it is used

from training.errors import DataError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_DATA_SET = "dataset"
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
        return Path(huggingface_hub.snapshot_download(repository, allow_patterns=list(patterns)))
    except Exception as error:  # the hub's client raises errors of four libraries
        raise _unreachable(repository, setting, error) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The files of a hub data set at one commit."""

    repository: str
    commit: str
    names: tuple[str, ...]
    """Paths of all files in the repository."""
    setting: str
    """The setting that names the repository, for messages."""

    def path(self, name: str) -> Path:
        """The local path of a file, which is downloaded if the hub's cache does not hold it.

        Raises:
            DataError: the hub cannot be reached and its cache does not hold it.
        """
        try:
            return Path(
                huggingface_hub.hf_hub_download(
                    self.repository, name, repo_type=_DATA_SET, revision=self.commit
                )
            )
        except Exception as error:
            raise _unreachable(self.repository, self.setting, error, _DATA_SET) from error


def snapshot(
    repository: str, *, revision: str, patterns: Sequence[str], setting: str, offline: bool = False
) -> Snapshot:
    """The files of a hub data set, which the hub lists or, where it cannot be reached, its cache.

    Args:
        repository: The hub id of the data set.
        revision: Commit, tag or branch; empty: the main branch.
        patterns: The files that have to be in the cache where the hub cannot be reached.
        setting: The setting that names the repository, for messages.
        offline: Ask the cache alone.

    Raises:
        DataError: neither the hub nor its cache has it; or an interrupted download left the cache
            without some of the files.
    """
    try:
        found = huggingface_hub.resolve_revision(
            repository,
            repo_type=_DATA_SET,
            revision=revision or None,
            local_files_only=offline,
        )
        names = [] if offline else _listed(repository, found.resolved)
        if not names:
            folder = Path(
                huggingface_hub.snapshot_download(
                    repository,
                    repo_type=_DATA_SET,
                    revision=found.resolved,
                    allow_patterns=list(patterns),
                    local_files_only=True,
                )
            )
            paths = (path for path in folder.rglob("*") if path.is_file())
            names = [path.relative_to(folder).as_posix() for path in paths]
    except Exception as error:  # the hub's client raises errors of four libraries
        raise _unreachable(repository, setting, error, _DATA_SET, revision) from error
    return Snapshot(
        repository=repository, commit=found.resolved, names=tuple(sorted(names)), setting=setting
    )


def _listed(repository: str, commit: str) -> list[str]:
    """The files that the hub lists; none if it cannot be reached."""
    try:
        return huggingface_hub.HfApi().list_repo_files(
            repository, repo_type=_DATA_SET, revision=commit
        )
    except Exception:
        return []


def _unreachable(
    repository: str, setting: str, error: Exception, repo_type: str = "", revision: str = ""
) -> DataError:
    reason = " ".join(str(error).split())[:200]
    option = f" --repo-type {repo_type}" if repo_type else ""
    option += f" --revision {revision}" if revision else ""
    return DataError(
        f"{setting} = {repository!r} is no local path, and the hub does not give it "
        f"({type(error).__name__}: {reason}). Where there is no network, run `hf download "
        f"{repository}{option}` elsewhere with the same HF_HOME, or set {setting} to the folder "
        "of `--local-dir`"
    )
