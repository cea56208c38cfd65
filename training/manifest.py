"""What a stage leaves beside its files: what made them, and that they are whole.

`manifest.json` in a stage's folder holds the resolved config, the fingerprints of the
inputs, the code version, and size and SHA-256 of every output. It is written last, so
a folder with a manifest is a finished stage.

    if not manifest.is_current(folder, config=config, inputs=inputs):
        ... make the files ...
        manifest.commit(folder, stage="prepare", config=config, inputs=inputs, outputs=files)

A checkpoint has one too. training/verification.py compares contents.
"""

import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any, cast

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
    if problem := problem_of_form(content.get("outputs")):
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


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
