"""Manifests: their form is checked by one reader, files are compared by one function."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from training import manifest, verification
from training.errors import DamagedFileError
from training.files import sha256_file, write_json

_DIGEST = "0" * 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "stage"
    (made / "inner").mkdir(parents=True)
    (made / "rows.bin").write_text("rows")
    (made / "inner" / "weights.bin").write_text("weights")
    outputs = [made / "rows.bin", made / "inner" / "weights.bin"]
    manifest.commit(made, stage="prepare", config={"a": 1}, inputs={}, outputs=outputs)
    return made


def _with_outputs(folder: Path, outputs: Any) -> None:
    path = folder / "manifest.json"
    write_json(path, {**json.loads(path.read_text()), "outputs": outputs})


def test_what_a_stage_commits_verifies(folder: Path) -> None:
    assert set(manifest.read(folder)["outputs"]) == {"rows.bin", "inner/weights.bin"}
    assert verification.problems_of(folder) == []
    assert manifest.is_current(folder, config={"a": 1}, inputs={})


@pytest.mark.parametrize(
    "outputs",
    [
        None,
        [],
        ["rows.bin"],
        {},
        "rows.bin",
        {"rows.bin": None},
        {"rows.bin": {"bytes": 4}},
        {"rows.bin": {"sha256": _DIGEST}},
        {"rows.bin": {"bytes": "4", "sha256": _DIGEST}},
        {"rows.bin": {"bytes": True, "sha256": _DIGEST}},
        {"rows.bin": {"bytes": -4, "sha256": _DIGEST}},
        {"rows.bin": {"bytes": 4, "sha256": "short"}},
        {"/etc/passwd": {"bytes": 4, "sha256": _DIGEST}},
        {"../rows.bin": {"bytes": 4, "sha256": _DIGEST}},
        {"inner/../../rows.bin": {"bytes": 4, "sha256": _DIGEST}},
        {"": {"bytes": 4, "sha256": _DIGEST}},
        {"rows\0.bin": {"bytes": 4, "sha256": _DIGEST}},
        {"r" * 5000: {"bytes": 4, "sha256": _DIGEST}},
        {"r" * 300: {"bytes": 4, "sha256": _DIGEST}},
    ],
    ids=lambda outputs: json.dumps(outputs)[:40],
)
def test_a_manifest_of_another_form_never_verifies(folder: Path, outputs: Any) -> None:
    _with_outputs(folder, outputs)
    (problem,) = verification.problems_of(folder)
    assert len(problem) < 1000
    assert not manifest.is_current(folder, config={"a": 1}, inputs={})
    if not (isinstance(outputs, dict) and "r" * 300 in outputs):  # of good form, but no file
        with pytest.raises(DamagedFileError, match="manifest.json is damaged: its outputs"):
            manifest.read(folder)


@pytest.mark.parametrize("content", ["[]", "null", "3", '"text"', "{", "\xff", "[" * 100_000])
def test_a_manifest_that_is_no_object_is_named(folder: Path, content: str) -> None:
    (folder / "manifest.json").write_text(content, "latin-1")
    with pytest.raises(DamagedFileError, match=r"manifest\.json (holds|is not valid JSON)"):
        manifest.read(folder)
    assert "manifest cannot be read" in verification.problems_of(folder)[0]
    assert not manifest.is_current(folder, config={"a": 1}, inputs={})


def test_links_out_of_the_folder_are_not_followed(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("rows")
    (folder / "rows.bin").unlink()
    (folder / "rows.bin").symlink_to(outside)
    assert verification.problems_of(folder) == ["rows.bin is a link out of the folder"]
    (folder / "inner").rename(tmp_path / "moved")
    (folder / "inner").symlink_to(tmp_path / "moved")
    assert "inner/weights.bin is a link out of the folder" in verification.problems_of(folder)
    # The whole folder may be one, and so may a file to its neighbour.
    (folder / "rows.bin").unlink()
    (folder / "rows.bin").symlink_to("other.bin")
    (folder / "other.bin").write_text("rows")
    (folder / "inner").unlink()
    (tmp_path / "moved").rename(folder / "inner")
    (tmp_path / "link").symlink_to(folder)
    assert verification.problems_of(tmp_path / "link") == []


def test_what_cannot_be_read_is_a_problem_not_an_error(folder: Path) -> None:
    (folder / "rows.bin").unlink()
    (folder / "rows.bin").mkdir()
    (folder / "inner" / "weights.bin").unlink()
    os.symlink("weights.bin", folder / "inner" / "weights.bin")  # to itself
    problems = verification.problems_of(folder)
    assert "rows.bin is no file" in problems
    assert any(line.startswith("inner/weights.bin ") for line in problems)
    assert "no folder" in verification.problems_of(folder / "inner" / "weights.bin")[0]


def test_files_are_compared_with_the_manifest_that_lists_them(folder: Path) -> None:
    inner = folder / "inner"
    verification.verify(inner, ["weights.bin", "neither_listed_nor_there"])
    (inner / "strange.bin").write_text("x")
    with pytest.raises(DamagedFileError, match=r"inner/strange\.bin is in no manifest"):
        verification.verify(inner, ["strange.bin"])
    (inner / "weights.bin").write_text("weighty")
    for names in (["weights.bin"], ["rows.bin", "inner/weights.bin"]):
        at = inner if names == ["weights.bin"] else folder
        with pytest.raises(
            DamagedFileError, match=r"stage is damaged: inner/weights\.bin has changed"
        ):
            verification.verify(at, names)
    verification.verify(folder, ["rows.bin"])
    (inner / "weights.bin").unlink()
    with pytest.raises(DamagedFileError, match="is missing"):
        verification.verify(inner, ["weights.bin"])


def test_a_link_in_place_of_the_folder_is_found(folder: Path, tmp_path: Path) -> None:
    (folder / "inner").rename(tmp_path / "inner")
    (folder / "inner").symlink_to(tmp_path / "inner")
    with pytest.raises(DamagedFileError, match="is a link out of the folder"):
        verification.verify(folder / "inner", ["weights.bin"])


@pytest.mark.parametrize("content", ["{}", '{"name": "an app", "icons": []}', '{"files": {}}'])
def test_another_projects_manifest_says_nothing_of_files(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    (tmp_path / "config.json").write_text("{}")
    verification.verify(tmp_path, ["config.json"])
    assert verification.listed_fingerprint(tmp_path) is None


def test_the_listed_fingerprint_is_that_of_the_files(folder: Path, tmp_path: Path) -> None:
    assert verification.listed_fingerprint(folder / "inner") == manifest.fingerprint(
        folder / "inner"
    )
    assert verification.listed_fingerprint(folder) is None  # its own manifest's digest is taken
    assert manifest.fingerprint(folder) == sha256_file(folder / "manifest.json")
