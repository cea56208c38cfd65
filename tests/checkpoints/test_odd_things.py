"""What else can lie among checkpoints: it is skipped, said, and never removed."""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from checkpoints.store import CheckpointStore
from parallel.ranks import ALONE
from tests.checkpoints.committing import committed
from training.errors import CheckpointError
from training.files import write_json
from training.monitoring import console


def _write(store: CheckpointStore, *steps: int) -> None:
    for step in steps:
        with committed(store, step) as folder:
            (folder / "state.json").write_text(f'{{"step": {step}}}')


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    made = CheckpointStore(tmp_path / "checkpoints", ranks=ALONE)
    _write(made, 1)
    return made


def _file(path: Path) -> None:
    path.write_text("mine")


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _link_to_damaged(path: Path) -> None:
    damaged = path.parent.parent / "elsewhere"
    shutil.copytree(path.with_name("step_1"), damaged)
    (damaged / "state.json").write_text("damaged")
    path.symlink_to(damaged)


def _to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def _mine(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("mine")


def _renamed(path: Path) -> None:
    shutil.copytree(path.with_name("step_1"), path)


def _long_name(path: Path) -> None:
    shutil.copytree(path.with_name("step_1"), path)
    write_json(path / "manifest.json", {"outputs": {"n" * 5000: {"bytes": 1, "sha256": "0" * 64}}})


def _folder_for_file(path: Path) -> None:
    _renamed(path)
    (path / "state.json").unlink()
    (path / "state.json").mkdir()


ODD: dict[Callable[[Path], None], str] = {
    _file: "is no folder",
    _dangling: "is no folder",
    _to_itself: "is no folder",
    _link_to_damaged: "state.json has 7 bytes",
    _mine: "holds no manifest.json",
    _renamed: "its manifest is of step 1",
    _long_name: "a name of 5,000 characters",
    _folder_for_file: "state.json is no file",
}


@pytest.mark.parametrize("make", ODD, ids=lambda make: make.__name__.strip("_"))
def test_it_is_passed_over_and_kept_when_its_step_is_written(
    store: CheckpointStore,
    make: Callable[[Path], None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = store.path(9)
    make(place)
    was = _content(place)
    assert store.newest() == store.path(1)
    said = caplog.text
    assert "step_9 is skipped: " in said and ODD[make] in said
    assert len(said) < 1000
    _write(store, 9)
    assert store.newest() == place
    aside = place.with_name("step_9.replaced-1")
    assert f"kept as {aside}" in caplog.text
    assert _content(aside) == was
    assert CheckpointStore(place.parent, ranks=ALONE, keep=1).steps() == [1, 9]


def _content(path: Path) -> object:
    if path.is_symlink():
        return os.readlink(path)
    if path.is_file():
        return path.read_text()
    return {file.name: file.is_dir() or file.read_text() for file in path.iterdir()}


@pytest.mark.parametrize("make", [_file, _dangling])
def test_what_is_where_a_checkpoint_is_written_is_kept(
    store: CheckpointStore, make: Callable[[Path], None]
) -> None:
    place = store.path(2).with_name("step_2.tmp")
    make(place)
    was = _content(place)
    _write(store, 2)
    assert store.newest() == store.path(2)
    assert _content(place.with_name("step_2.tmp.replaced-1")) == was


def test_a_folder_called_latest_is_kept(store: CheckpointStore) -> None:
    latest = store.path(1).with_name("latest")
    latest.unlink()
    _mine(latest)
    _write(store, 2)
    assert latest.read_text() == "step_2\n"
    assert (latest.with_name("latest.replaced-1") / "notes.txt").read_text() == "mine"


def test_names_that_are_no_steps_are_no_checkpoints(store: CheckpointStore) -> None:
    for name in ("step_01", "step_٣", "step_", "step_1.replaced-1", "step_-1", "step_1e3"):
        _mine(store.path(1).with_name(name))
    assert store.steps() == [1]
    assert store.newest() == store.path(1)


def test_a_good_checkpoint_behind_a_link_is_taken(store: CheckpointStore, tmp_path: Path) -> None:
    _write(store, 2)
    store.path(2).rename(tmp_path / "other_disk")
    store.path(2).symlink_to(tmp_path / "other_disk")
    assert store.newest() == store.path(2)


def test_pruning_leaves_links_and_foreign_folders_alone(
    store: CheckpointStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _write(store, 2, 3)
    store.path(2).rename(tmp_path / "other_disk")
    store.path(2).symlink_to(tmp_path / "other_disk")
    _mine(store.path(4))
    _renamed(store.path(5))
    pruning = CheckpointStore(store.path(1).parent, ranks=ALONE, keep=2)
    _write(pruning, 6, 7)
    # Links and foreign folders do not count for those that are kept.
    assert pruning.steps() == [2, 4, 5, 6, 7]
    assert (tmp_path / "other_disk" / "state.json").read_text() == '{"step": 2}'
    assert (store.path(4) / "notes.txt").read_text() == "mine"
    said = caplog.text
    assert said.count(f"{store.path(2)} is not pruned: it is a symbolic link") == 1
    assert said.count(f"{store.path(4)} is not pruned: it is no checkpoint") == 1
    assert said.count(f"{store.path(5)} is not pruned: its manifest is of step 1") == 1


def _nothing(path: Path) -> None:
    path.mkdir()


def _of_another_stage(path: Path) -> None:
    shutil.copytree(path.with_name("step_1"), path)
    made = json.loads((path / "manifest.json").read_text())
    del made["step"]
    write_json(path / "manifest.json", {"stage": "prepare", **made})


def _ahead(path: Path) -> None:
    shutil.copytree(path.with_name("step_1"), path)
    made = json.loads((path / "manifest.json").read_text())
    write_json(path / "manifest.json", {**made, "step": 900})


@pytest.mark.parametrize("make", [_nothing, _mine, _of_another_stage, _ahead])
def test_what_comes_meanwhile_pushes_no_checkpoint_out(
    store: CheckpointStore, make: Callable[[Path], None]
) -> None:
    pruning = CheckpointStore(store.path(1).parent, ranks=ALONE, keep=1)
    make(store.path(900))
    _write(pruning, 2)
    assert pruning.steps() == [2, 900]
    if make is not _ahead:
        assert pruning.newest() == pruning.path(2)


def test_pruning_leaves_what_no_manifest_lists(
    store: CheckpointStore, caplog: pytest.LogCaptureFixture
) -> None:
    pruning = CheckpointStore(store.path(1).parent, ranks=ALONE, keep=1)
    with committed(pruning, 2) as folder:
        (folder / "universal" / "zero").mkdir(parents=True)
        (folder / "universal" / "zero" / "a.pt").write_text("weights")
    note = pruning.path(2) / "universal" / "my_notes.txt"
    note.write_text("mine")
    _write(pruning, 3, 4)
    assert pruning.steps() == [2, 4] and note.read_text() == "mine"
    assert [path.name for path in pruning.path(2).rglob("*")] == ["universal", "my_notes.txt"]
    said = caplog.text
    assert said.count("step_2 is not pruned completely: it holds universal") == 1


def test_folders_of_folders_are_flushed(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: set[str] = set()

    def sync(path: Path) -> None:
        flushed.add(str(path.relative_to(store.path(1).parent)))

    monkeypatch.setattr("checkpoints.store.sync", sync)
    with committed(store, 2) as folder:
        (folder / "universal" / "zero").mkdir(parents=True)
        (folder / "universal" / "zero" / "a.pt").write_text("weights")
    inner = ["", "/universal", "/universal/zero", "/universal/zero/a.pt"]
    assert flushed == {".", *(f"step_2.tmp{name}" for name in inner)}


def test_pruning_that_was_cut_short_is_finished_by_the_next(store: CheckpointStore) -> None:
    (store.path(1) / "state.json").unlink()  # the manifest goes last
    _write(CheckpointStore(store.path(1).parent, ranks=ALONE, keep=1), 2)
    assert store.steps() == [2]


def test_checkpoints_that_are_a_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("mine")
    with pytest.raises(CheckpointError, match="checkpoints cannot be read: Not a directory"):
        CheckpointStore(tmp_path / "checkpoints", ranks=ALONE).newest()


def test_a_manifest_without_a_step_is_an_older_one(store: CheckpointStore) -> None:
    path = store.path(1) / "manifest.json"
    content = json.loads(path.read_text())
    del content["step"]
    write_json(path, content)
    assert store.newest() == store.path(1)


def _newest_as_nobody(folder: Path) -> str:
    """What a user without rights finds, after what it printed; root may read everything."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(theirs, 1)
            sys.stdout = os.fdopen(1, "w")
            os.setgid(65534)
            os.setuid(65534)
            console.set_up(ALONE)
            print(CheckpointStore(folder, ranks=ALONE).newest(), flush=True)
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return said


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("what", ["state.json", "manifest.json", ""])
def test_what_may_not_be_read_is_passed_over(what: str) -> None:
    # Not below pytest's own folders, which are closed to other users.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        store = CheckpointStore(folder / "checkpoints", ranks=ALONE)
        _write(store, 1, 2)
        (store.path(2) / what).chmod(0o000)
        said = _newest_as_nobody(folder / "checkpoints").splitlines()
        assert said[-1] == str(store.path(1)), said
        assert "step_2 is skipped" in said[0] and "ermission denied" in said[0]
