"""Checkpoints: kills at any moment, torn files, two ranks; the newest that verifies wins."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from checkpoints.background import BackgroundWriter
from checkpoints.store import CheckpointStore
from parallel.ranks import ALONE, Ranks
from tests.checkpoints.committing import committed
from tests.ranks import run_distributed
from training.verification import problems_of


def _write(store: CheckpointStore, step: int, text: str = "weights") -> None:
    with committed(store, step) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "shard.bin").write_text(text)
        (folder / "state.json").write_text("{}")


def test_the_newest_is_found_and_latest_follows(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, ranks=ALONE)
    assert store.newest() is None
    _write(store, 10)
    _write(store, 200)
    _write(store, 30)
    assert store.steps() == [10, 30, 200]
    assert store.newest() == tmp_path / "step_200"
    assert (tmp_path / "latest").read_text() == "step_30\n"


def test_old_ones_are_pruned_after_the_commit(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, ranks=ALONE, keep=2)
    for step in (1, 2, 3, 4):
        _write(store, step)
    assert store.steps() == [3, 4]


def test_named_steps_are_never_pruned(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, ranks=ALONE, keep=1, keep_steps=[2, 4, 9])
    for step in (1, 2, 3, 4, 5, 6):
        _write(store, step)
    assert store.steps() == [2, 4, 6]


def test_a_damaged_checkpoint_pushes_no_whole_one_out(tmp_path: Path) -> None:
    for step in (1, 2, 9):
        _write(CheckpointStore(tmp_path, ranks=ALONE), step)
    (tmp_path / "step_9" / "state.json").write_text("damaged")
    store = CheckpointStore(tmp_path, ranks=ALONE, keep=1)
    assert store.newest() == tmp_path / "step_2"
    _write(store, 3)
    assert store.steps() == [3, 9] and store.newest() == tmp_path / "step_3"
    _write(store, 9)
    assert store.steps() == [9] and store.newest() == tmp_path / "step_9"


@pytest.mark.parametrize("harm", ["truncate", "flip", "remove", "manifest", "no manifest"])
def test_a_damaged_checkpoint_is_passed_over(
    tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = CheckpointStore(tmp_path, ranks=ALONE)
    _write(store, 1)
    _write(store, 2)
    shard = tmp_path / "step_2" / "inner" / "shard.bin"
    if harm == "truncate":
        shard.write_text("")
    elif harm == "flip":
        shard.write_text("weighty")
    elif harm == "remove":
        shard.unlink()
    elif harm == "manifest":
        (tmp_path / "step_2" / "manifest.json").write_text('{"outputs": {')
    else:
        (tmp_path / "step_2" / "manifest.json").unlink()
    assert store.newest() == tmp_path / "step_1"
    assert "step_2 is skipped" in caplog.text
    _write(store, 2)  # the next attempt writes it again
    assert store.newest() == tmp_path / "step_2"


def test_an_error_while_writing_leaves_what_was(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, ranks=ALONE)
    _write(store, 1)
    with pytest.raises(OSError, match="No space left"):
        with committed(store, 2) as folder:
            (folder / "half").write_text("x")
            raise OSError(28, "No space left on device")
    assert store.newest() == tmp_path / "step_1"
    assert (tmp_path / "latest").read_text() == "step_1\n"
    _write(store, 2)
    assert not problems_of(tmp_path / "step_2")


def _counted(calls: list[int], moment: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, dying at the given call of all that share `calls`."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        calls.append(1)
        if len(calls) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **keywords)

    return call


def _write_and_die(folder: Path, moment: int) -> int:
    """In a process of its own, write checkpoint 2 and be killed at the moment; how it ended."""
    child = os.fork()
    if child == 0:
        calls: list[int] = []
        for owner, name in [
            (os, "fsync"),
            (os, "replace"),
            (os, "rename"),
            (Path, "rename"),
            (Path, "write_text"),
        ]:
            setattr(owner, name, _counted(calls, moment, getattr(owner, name)))
        _write(CheckpointStore(folder, ranks=ALONE), 2)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_kill_at_any_moment_leaves_a_checkpoint_that_verifies(tmp_path: Path) -> None:
    outcomes: set[str] = set()
    for moment in range(1, 60):
        folder = tmp_path / str(moment)
        store = CheckpointStore(folder, ranks=ALONE)
        _write(store, 1)
        code = _write_and_die(folder, moment)
        newest = store.newest()
        assert newest is not None
        outcomes.add(newest.name)
        latest = (folder / "latest").read_text().strip()
        assert not problems_of(folder / latest)
        if code == 0:
            assert newest.name == "step_2"
            break
        assert code == -signal.SIGKILL
    else:
        pytest.fail("the protocol has more moments than were tried")
    assert outcomes == {"step_1", "step_2"}


def _newest_after_damage(ranks: Ranks, folder: Path) -> Path | None:
    def write(step: Path) -> Iterator[Path]:
        path = step / f"rank_{ranks.rank}.bin"
        path.write_bytes(bytes([ranks.rank]) * 1000)
        yield path

    store = CheckpointStore(folder, ranks=ranks)
    writer = BackgroundWriter(store, ranks)
    for step in (1, 2):
        writer.start(step, store.begin(step), write=write, write_last=lambda _: ())
        writer.finish()
    if ranks.rank == 1:
        (store.path(2) / "rank_1.bin").write_bytes(b"short")
    ranks.barrier()
    return store.newest()


def test_two_ranks_write_together_and_agree_on_the_newest(tmp_path: Path) -> None:
    for newest in run_distributed(_newest_after_damage, 2, tmp_path / "store"):
        assert newest is not None and newest.name == "step_1"
    manifest = json.loads((tmp_path / "store" / "step_1" / "manifest.json").read_text())
    assert set(manifest["outputs"]) == {"rank_0.bin", "rank_1.bin"}
