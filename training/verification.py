"""Compares files with the manifest that lists them: sizes and SHA-256.

    verify(folder, ["config.json", "model.safetensors"], ranks=ranks)

The manifest is in the folder or in the one above: a checkpoint's lists the files of its
`huggingface/`, a data folder's those of its `tokenizer/`. Whoever reads such files compares them
first: small files each process by itself, weights all ranks together, split among them.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from parallel.ranks import ALONE, Ranks
from training.errors import DamagedFileError, UserError
from training.files import read_json_object, sha256_file, sha256_json
from training.manifest import MANIFEST, problem_of_form, read


def problems_of(
    folder: Path, names: Iterable[str] | None = None, *, ranks: Ranks = ALONE
) -> list[str]:
    """Compare a folder's files with its manifest, sizes and contents.

    Args:
        folder: Holds `manifest.json`.
        names: Files that may be read, relative to `folder`. A name that is neither listed nor
            there is left out. None: all that are listed.
        ranks: Share the files; all of them call it, and get the same answer.

    Returns:
        One line for each file that is missing, changed, unreadable, unlisted or a link out of
        the folder; empty when all is well.
    """
    # One rank reads the manifest: a thousand that read it at once take the file system's time.
    outputs = ranks.on_main(lambda: _listed(folder))
    if isinstance(outputs, str):
        return [outputs]
    wanted = sorted(set(outputs if names is None else names))
    mine = [
        f"{name} {problem}"
        for name in wanted[ranks.rank :: ranks.world_size]
        if (problem := _problem_of(folder, name, outputs.get(name)))
    ]
    return list(dict.fromkeys(line for lines in ranks.gather(mine) for line in lines))


def _listed(folder: Path) -> dict[str, Any] | str:
    """The files that a folder's manifest lists, or why it cannot be read."""
    try:
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is no folder")
        return read(folder)["outputs"]
    except (OSError, UserError) as error:
        return f"its manifest cannot be read ({error})"


def verify(folder: Path, names: Iterable[str], *, ranks: Ranks = ALONE) -> None:
    """Compare files with the manifest that lists them; without one there is nothing to compare.

    Args:
        folder: Holds the files. The manifest is in it, or in the folder above it.
        names: Files that may be read, relative to `folder`.
        ranks: Share the files; all of them call it.

    Raises:
        DamagedFileError: on all ranks: a file is not as it was written.
    """
    owner = ranks.on_main(lambda: _owner_of(folder))
    if owner is None:
        return
    problems = problems_of(owner.folder, [owner.prefix + name for name in names], ranks=ranks)
    if problems:
        raise DamagedFileError(damaged(owner.folder, problems))


def damaged(folder: Path, problems: Sequence[str]) -> str:
    """The message on a folder that holds other files than its manifest says."""
    more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
    return f"{folder} is damaged: {problems[0]}{more}; restore it from a copy, or name another one"


def listed_fingerprint(folder: Path) -> str | None:
    """`fingerprint` of a folder below a manifest, worked out from that; None: there is none.

    It holds for the files once `verify` has compared them.
    """
    owner = _owner_of(folder)
    if owner is None or not owner.prefix:
        return None
    outputs: dict[str, Any] = read(owner.folder)["outputs"]
    return sha256_json(
        {
            name.removeprefix(owner.prefix): facts["sha256"]
            for name, facts in outputs.items()
            if name.startswith(owner.prefix)
        }
    )


@dataclass(frozen=True, slots=True)
class _Owner:
    folder: Path
    """Holds the manifest."""
    prefix: str
    """Of the names that the manifest gives the files."""


def _owner_of(folder: Path) -> _Owner | None:
    """The manifest of this project that lists the files of a folder: in it, or one above."""
    # As it is named first: a link out of a checkpoint is then found to be one.
    for place in (Path(os.path.abspath(folder)), Path(os.path.realpath(folder))):
        if _is_ours(place, ""):
            return _Owner(place, "")
        if _is_ours(place.parent, f"{place.name}/"):
            return _Owner(place.parent, f"{place.name}/")
    return None


def _is_ours(folder: Path, prefix: str) -> bool:
    """Whether a folder's manifest is one of this project, and about the files below a prefix.

    Other projects call files `manifest.json` too. One that cannot be read is taken for ours.
    """
    if not (folder / MANIFEST).exists():
        return False
    try:
        content = read_json_object(folder / MANIFEST)
    except DamagedFileError:
        return True
    outputs = content.get("outputs")
    if "stage" not in content and "step" not in content and not isinstance(outputs, dict):
        return False
    # All that lies below a checkpoint is the checkpoint's.
    if "step" in content or problem_of_form(outputs):
        return True
    return any(name.startswith(prefix) for name in cast("dict[str, Any]", outputs))


def _problem_of(folder: Path, name: str, facts: Mapping[str, Any] | None) -> str:
    """What is wrong with one file, to follow its name; empty: nothing."""
    path = folder / name
    try:
        if facts is None:
            return "is in no manifest: training did not write it" if os.path.lexists(path) else ""
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
            return "is a link out of the folder"
        if not path.exists():
            return "is missing"
        if not path.is_file():
            return "is no file"
        if path.stat().st_size != facts["bytes"]:
            return f"has {path.stat().st_size} bytes, not {facts['bytes']}"
        if sha256_file(path) != facts["sha256"]:
            return "has changed since it was written"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return ""
