"""What a stage leaves beside its files: what made them, and that they are whole.

`manifest.json` in a stage's folder holds the resolved config, the fingerprints of the
inputs, the code version, and size and SHA-256 of every output. It is written last, so
a folder with a manifest is a finished stage.

    if not manifest.is_current(folder, config=config, inputs=inputs):
        ... make the files ...
        manifest.commit(folder, stage="prepare", config=config, inputs=inputs, outputs=files)

A checkpoint has one too. Whoever reads files that a manifest lists compares them with it:

    manifest.verify(folder, ["config.json", "model.safetensors"], ranks=ranks)
"""

import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any, cast

from parallel.ranks import ALONE, Ranks
from training.config import ConfigError
from training.files import read_json_object, sha256_file, sha256_json, write_json

MANIFEST = "manifest.json"
_LONGEST_NAME = 1024
"""Characters of a path that a manifest may hold: file systems take 255 a part."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a stage would do with its folder as it is now."""

    words: str
    """As a sentence goes on after `the stage`: `goes on from step 200 of 400`."""
    finished: bool = False
    """Whether that is nothing."""


def fingerprint(path: Path) -> str:
    """A digest of a file, or of a folder: its manifest if it has one, else all its files.

    Raises:
        FileNotFoundError: there is nothing at `path`.
    """
    if path.is_file():
        return sha256_file(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist")
    if (path / MANIFEST).is_file():
        return sha256_file(path / MANIFEST)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return sha256_json({str(file.relative_to(path)): sha256_file(file) for file in files})


def code_version() -> dict[str, str]:
    """The project's version, the git commit where there is one, and the main libraries'."""
    folder = Path(__file__).parent
    names = ("torch", "deepspeed", "megatron-core", "transformers", "pydantic-monty")
    versions = {"git": _git(folder, "rev-parse", "HEAD") or "unknown"}
    if _git(folder, "status", "--porcelain"):
        versions["git"] += "+changes"
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    return versions


def commit(
    folder: Path,
    *,
    stage: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    outputs: Iterable[Path],
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Declare the stage finished.

    Args:
        folder: The stage's folder.
        stage: Its name.
        config: What decides its content, as JSON-ready data.
        inputs: Name to fingerprint of everything it read.
        outputs: The files it wrote, within `folder`.
        facts: Counts worth keeping: rows, drops, tokens.
    """
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in sorted(outputs)
    }
    content = {
        "stage": stage,
        "config": dict(config),
        "inputs": dict(inputs),
        "code": code_version(),
        "facts": dict(facts or {}),
        "outputs": files,
    }
    write_json(folder / MANIFEST, content)


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a finished stage or of a checkpoint, its form checked.

    `outputs` is then an object that names at least one file, all of them by paths within the
    folder, each with its size in `bytes` and its `sha256`.

    Raises:
        FileNotFoundError: the stage never finished.
        ConfigError: the manifest cannot be read, or is not of this form.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {MANIFEST}: its stage did not finish")
    content = read_json_object(path)
    if problem := _problem_of_form(content.get("outputs")):
        raise ConfigError(f"{path} is damaged: {problem}")
    return content


def is_current(folder: Path, *, config: Mapping[str, Any], inputs: Mapping[str, str]) -> bool:
    """Whether the stage finished with this config and these inputs and its files are there.

    Sizes are compared, not contents: this runs before every stage. A code change alone
    does not make a stage stale; the manifest tells which code made it.
    """
    try:
        manifest = read(folder)
        if manifest.get("config") != dict(config) or manifest.get("inputs") != dict(inputs):
            return False
        return all(
            (folder / name).is_file() and (folder / name).stat().st_size == facts["bytes"]
            for name, facts in manifest["outputs"].items()
        )
    except (OSError, ConfigError):
        return False


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
    mine: list[str] = []
    try:
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is no folder")
        outputs: dict[str, Any] = read(folder)["outputs"]
    except (OSError, ConfigError) as error:
        mine = [f"its manifest cannot be read ({error})"]
    else:
        for name in sorted(set(outputs if names is None else names))[
            ranks.rank :: ranks.world_size
        ]:
            if problem := _problem_of(folder, name, outputs.get(name)):
                mine.append(f"{name} {problem}")
    return list(dict.fromkeys(line for share in ranks.gather(mine) for line in share))


def verify(folder: Path, names: Iterable[str], *, ranks: Ranks = ALONE) -> None:
    """Compare files with the manifest that lists them; without one there is nothing to compare.

    Args:
        folder: Holds the files. The manifest is in it, or in the folder above it.
        names: Files that may be read, relative to `folder`.
        ranks: Share the files; all of them call it.

    Raises:
        ConfigError: on all ranks: a file is not as it was written.
    """
    problems: list[str] = []
    owner = _owner_of(folder)
    if owner is None:
        ranks.gather(None)  # another rank may see a manifest, and exchanges its findings
        return
    problems = problems_of(owner.folder, [owner.prefix + name for name in names], ranks=ranks)
    if problems:
        raise ConfigError(damaged(owner.folder, problems))


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
    except ConfigError:
        return True
    outputs = content.get("outputs")
    if "stage" not in content and "step" not in content and not isinstance(outputs, dict):
        return False
    # All that lies below a checkpoint is the checkpoint's.
    if "step" in content or _problem_of_form(outputs):
        return True
    return any(name.startswith(prefix) for name in cast("dict[str, Any]", outputs))


def _problem_of_form(outputs: Any) -> str:
    """What is wrong with a manifest's list of files; empty: nothing."""
    if not isinstance(outputs, dict):
        return "its outputs are no JSON object"
    listed = cast("dict[str, Any]", outputs)
    if not listed:
        return "its outputs name no file"
    for name, facts in listed.items():
        if len(name) > _LONGEST_NAME:
            return f"its outputs hold a name of {len(name):,} characters: {name[:40]}..."
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or str(path) != name or "\0" in name:
            return f"its outputs name {name!r}, which is no path within the folder"
        if not _is_size_and_digest(facts):
            return f"its outputs give no size and SHA-256 of {name}"
    return ""


def _is_size_and_digest(facts: Any) -> bool:
    if not isinstance(facts, dict):
        return False
    found = cast("dict[str, Any]", facts)
    size, digest = found.get("bytes"), found.get("sha256")
    return (
        type(size) is int
        and size >= 0
        and isinstance(digest, str)
        and re.fullmatch("[0-9a-f]{64}", digest) is not None
    )


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


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
