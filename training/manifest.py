"""What a stage leaves beside its files: what made them, and that they are whole.

`manifest.json` in a stage's folder holds the resolved config, the fingerprints of the
inputs, the code version, and size and SHA-256 of every output. It is written last, so
a folder with a manifest is a finished stage.

    if not manifest.is_current(folder, config=config, inputs=inputs):
        ... make the files ...
        manifest.commit(folder, stage="prepare", config=config, inputs=inputs, outputs=files)

A checkpoint has one too. training/verification.py compares contents.
"""

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any, cast

from training.errors import DamagedFileError, UserError
from training.files import read_json_object, sha256_file, sha256_json, write_json

MANIFEST = "manifest.json"
_LONGEST_NAME = 1024
"""Characters of a path that a manifest may hold: file systems take 255 a part."""


@dataclass(frozen=True, slots=True)
class Status:
    """What a stage would do with its folder as it is now."""

    message: str
    """What follows the verb in a sentence: `resumes from step 200 of 400`."""
    finished: bool = False
    """Whether there is nothing to do."""


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
        DamagedFileError: the manifest cannot be read, or is not of this form.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {MANIFEST}: its stage did not finish")
    content = read_json_object(path)
    if problem := problem_of_form(content.get("outputs")):
        raise DamagedFileError(f"{path} is damaged: {problem}")
    return content


def is_current(folder: Path, *, config: Mapping[str, Any], inputs: Mapping[str, str]) -> bool:
    """Whether the stage finished with this config and these inputs and its files are there.

    Sizes are compared, not contents: this runs before every stage. A code change alone
    does not make a stage stale; the manifest records which code made it.
    """
    try:
        made = read(folder)
        return (
            made.get("config") == dict(config)
            and made.get("inputs") == dict(inputs)
            and not damaged_outputs(folder, made)
        )
    except (OSError, UserError):
        return False


def problem_of_form(outputs: Any) -> str:
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


def damaged_outputs(folder: Path, made: Mapping[str, Any]) -> list[str]:
    """A line for each file of a manifest that is missing or has another size."""
    found: list[str] = []
    for name, facts in made["outputs"].items():
        path = folder / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif path.stat().st_size != facts["bytes"]:
            found.append(f"{name} has {path.stat().st_size} bytes, not {facts['bytes']}")
    return found


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """What two configs differ in.

    Args:
        before: A config as JSON-ready data.
        now: Another one.

    Returns:
        Dotted key (`data.sources.0.seed`) to a sentence with both values.
    """
    old, new = dict(_flat(before)), dict(_flat(now))
    return {
        key: f"{key} was {_shown(old, key)}, is {_shown(new, key)}"
        for key in sorted(old.keys() | new.keys())
        if key not in old or key not in new or old[key] != new[key]
    }


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        entries = [(str(key), value) for key, value in tree.items()]
    elif isinstance(tree, (list, tuple)):
        entries = [(str(number), value) for number, value in enumerate(tree)]
    else:
        yield prefix, tree
        return
    for key, value in entries:
        yield from _flat(value, f"{prefix}.{key}" if prefix else key)


def _shown(flat: Mapping[str, Any], key: str) -> str:
    return repr(flat[key]) if key in flat else "not set"


def refuse_others(folder: Path, *, stage: str, setting: str) -> None:
    """Refuse to replace a folder that holds anything but what this stage left there.

    Args:
        folder: What is to be replaced; it may be absent or empty.
        stage: Who wants to replace it.
        setting: The setting that names it, for the message.

    Raises:
        FileExistsError: it is a file, a symbolic link, a mount point, or holds a file, link or
            folder that no manifest of the stage lists; names it.
    """
    if folder.is_symlink():
        raise FileExistsError(
            f"{setting} = {folder} is a symbolic link, which {stage} would replace: set {setting} "
            f"to the folder that it points to, {folder.resolve()}"
        )
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(
            f"{setting} = {folder} is a file, which {stage} would replace: set another {setting}"
        )
    if os.path.ismount(folder):
        raise FileExistsError(
            f"{setting} = {folder} is a mount point, which cannot be replaced: set {setting} to a "
            "folder in it"
        )
    if found := _others(folder, stage):
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise FileExistsError(
            f"{setting} = {folder} holds {found[0].relative_to(folder)}{more}, which no manifest "
            f"of {stage} lists and {stage} would remove: set another {setting}, or move it away"
        )


def remove(folder: Path, *, stage: str | None = None) -> list[Path]:
    """Remove what the stage's manifest lists, and the folders that this empties.

    Args:
        folder: The stage's folder.
        stage: Its name; None: `folder` is a checkpoint, whose manifest names no stage.

    Returns:
        What else is in the folder: it stays, and with it the folder.
    """
    others = _others(folder, stage)
    kept = set(others)
    for parent, _, names in os.walk(folder, topdown=False):
        # The manifest last: a kill in between leaves what is still known as ours.
        for name in sorted(names, key=MANIFEST.__eq__):
            if (path := Path(parent) / name) not in kept:
                path.unlink()
        with suppress(OSError):  # it holds something else
            os.rmdir(parent)
    return others


def _others(folder: Path, stage: str | None) -> list[Path]:
    """What is in a folder that the stage's manifest does not list."""
    listed: set[Path] = set()
    with suppress(FileNotFoundError, DamagedFileError):
        made = read(folder)
        if made.get("stage") == stage:
            listed = {folder / name for name in (MANIFEST, *made["outputs"])}
    parents = {parent for path in listed for parent in path.parents}
    found: list[Path] = []
    for path in sorted(folder.rglob("*")):
        is_folder = path.is_dir() and not path.is_symlink()
        if path.is_symlink() or path not in (parents if is_folder else listed):
            found.append(path)
    return found


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
