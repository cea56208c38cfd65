"""Files and manifests: whole or not there, and stale when something changed."""

from pathlib import Path

import pytest

from training import manifest
from training.files import read_json, replacing, write_json


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    with pytest.raises(RuntimeError, match="midway"):
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("midway")
    assert read_json(path) == {"x": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_broken_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="a.json is not valid JSON"):
        read_json(path)


def _commit(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "out.txt").write_text("content")
    manifest.commit(
        folder, stage="s", config={"a": 1}, inputs={"i": "f"}, outputs=[folder / "out.txt"]
    )


def test_manifest_is_current_until_something_changes(tmp_path: Path) -> None:
    folder = tmp_path / "stage"
    assert not manifest.is_current(folder, config={"a": 1}, inputs={"i": "f"})
    _commit(folder)
    assert manifest.is_current(folder, config={"a": 1}, inputs={"i": "f"})
    assert not manifest.is_current(folder, config={"a": 2}, inputs={"i": "f"})
    assert not manifest.is_current(folder, config={"a": 1}, inputs={"i": "g"})
    (folder / "out.txt").write_text("longer content")
    assert not manifest.is_current(folder, config={"a": 1}, inputs={"i": "f"})
    (folder / "out.txt").unlink()
    assert not manifest.is_current(folder, config={"a": 1}, inputs={"i": "f"})


def test_a_torn_manifest_is_no_manifest(tmp_path: Path) -> None:
    folder = tmp_path / "stage"
    _commit(folder)
    (folder / manifest.MANIFEST).write_text('{"config": ')
    assert not manifest.is_current(folder, config={"a": 1}, inputs={"i": "f"})


def test_fingerprints_follow_content(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a").write_text("1")
    first = manifest.fingerprint(folder)
    (folder / "a").write_text("2")
    assert manifest.fingerprint(folder) != first
    with pytest.raises(FileNotFoundError, match="nowhere"):
        manifest.fingerprint(tmp_path / "nowhere")


def test_manifest_names_the_code(tmp_path: Path) -> None:
    _commit(tmp_path / "stage")
    code = manifest.read(tmp_path / "stage")["code"]
    assert code["torch"][0].isdigit() and code["git"]
