"""What a stage leaves beside its files: what made them, and that they are whole.

`manifest.json` in a stage's folder holds the resolved config, the fingerprints of the
inputs, the code version, and size and SHA-256 of every output. It is written last, so
a folder with a manifest is a finished stage.

    if not manifest.is_current(folder, config=config, inputs=inputs):
        ... make the files ...
        manifest.commit(folder, stage="prepare", config=config, inputs=inputs, outputs=files)
"""

import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from training.files import read_json, sha256_file, sha256_json, write_json

MANIFEST = "manifest.json"


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
    """The manifest of a finished stage.

    Raises:
        FileNotFoundError: the stage never finished.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {MANIFEST}: its stage did not finish")
    return read_json(path)


def is_current(folder: Path, *, config: Mapping[str, Any], inputs: Mapping[str, str]) -> bool:
    """Whether the stage finished with this config and these inputs and its files are there.

    Sizes are compared, not contents: this runs before every stage. A code change alone
    does not make a stage stale; the manifest tells which code made it.
    """
    try:
        manifest = read(folder)
    except (FileNotFoundError, ValueError):
        return False
    if manifest["config"] != dict(config) or manifest["inputs"] != dict(inputs):
        return False
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == facts["bytes"]
        for name, facts in manifest["outputs"].items()
    )


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
