"""Checkpoints that are written behind the training loop: order, errors, and an end in between."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkpoints.background import BackgroundWriter
from checkpoints.store import CheckpointStore
from parallel.ranks import ALONE, Ranks
from tests.ranks import run_distributed
from training.disk import NotWritten
from training.verification import problems_of


class Gate:
    """Files whose writing waits until it is opened."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    def write(self, folder: Path) -> Iterator[Path]:
        assert self._open.wait(60)
        (folder / "state.json").write_text("{}")
        yield folder / "state.json"


def nothing(_: Path) -> Iterator[Path]:
    yield from ()


def begun(store: CheckpointStore, writer: BackgroundWriter, step: int, gate: Gate) -> None:
    writer.start(step, store.begin(step), write=gate.write, write_last=nothing)


def test_a_checkpoint_is_there_only_once_it_is_written(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, ranks=ALONE)
    writer, gate = BackgroundWriter(store, ALONE), Gate()
    begun(store, writer, 1, gate)
    assert store.steps() == [] and not writer.failed
    gate.open()
    writer.finish()
    assert store.steps() == [1] and not problems_of(store.path(1))
    writer.finish()  # nothing is being written


def test_the_last_files_are_written_after_those_of_all_ranks(tmp_path: Path) -> None:
    def last(folder: Path) -> Iterator[Path]:
        path = folder / "model.txt"
        path.write_text((folder / "state.json").read_text())
        yield path

    store = CheckpointStore(tmp_path, ranks=ALONE)
    writer, gate = BackgroundWriter(store, ALONE), Gate()
    gate.open()
    writer.start(1, store.begin(1), write=gate.write, write_last=last)
    writer.finish()
    assert (store.path(1) / "model.txt").read_text() == "{}" and not problems_of(store.path(1))


def test_an_error_names_the_checkpoint_and_where_the_run_resumes(tmp_path: Path) -> None:
    def fails(folder: Path) -> Iterator[Path]:
        raise NotWritten(f"{folder} cannot be written: Input/output error", 5)

    store = CheckpointStore(tmp_path, ranks=ALONE)
    writer, gate = BackgroundWriter(store, ALONE), Gate()
    gate.open()
    begun(store, writer, 4, gate)
    writer.finish()
    writer.start(9, store.begin(9), write=fails, write_last=nothing)
    while not writer.failed:
        time.sleep(0.01)
    with pytest.raises(NotWritten, match=r"Input/output error.*step 9.*resumes from step 4"):
        writer.finish()
    assert not writer.failed
    begun(store, writer, 9, gate)
    writer.finish()
    assert store.steps() == [4, 9]


def test_what_is_being_written_is_committed_when_the_run_ends_in_an_error(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, ranks=ALONE)
    writer, gate = BackgroundWriter(store, ALONE), Gate()
    begun(store, writer, 1, gate)
    threading.Timer(0.3, gate.open).start()
    writer.close()
    store.discard_unfinished()
    assert store.steps() == [1]


def test_what_takes_too_long_after_an_error_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("checkpoints.background._SECONDS_TO_END", 0.2)
    store = CheckpointStore(tmp_path, ranks=ALONE)
    writer, gate = BackgroundWriter(store, ALONE), Gate()
    begun(store, writer, 1, gate)
    writer.close()
    gate.open()
    writer._thread.join(60)  # pyright: ignore
    store.discard_unfinished()
    assert store.steps() == [] and list(tmp_path.iterdir()) == []


def _second_rank_fails(ranks: Ranks, folder: Path) -> tuple[str, list[int]]:
    def write(step: Path) -> Iterator[Path]:
        if ranks.rank == 1:
            raise NotWritten("this rank's disk is gone", 5)
        path = step / f"rank_{ranks.rank}.bin"
        path.write_bytes(b"weights")
        yield path

    store = CheckpointStore(folder, ranks=ranks)
    writer = BackgroundWriter(store, ranks)
    writer.start(1, store.begin(1), write=write, write_last=nothing)
    try:
        writer.finish()
    except NotWritten as error:
        return str(error), store.steps()
    return "", store.steps()


def test_one_ranks_error_is_raised_on_all_and_nothing_is_committed(tmp_path: Path) -> None:
    for message, steps in run_distributed(_second_rank_fails, 3, tmp_path / "store"):
        assert "this rank's disk is gone (on rank 1)" in message
        assert steps == []


def _two_stores(ranks: Ranks, folder: Path) -> list[int]:
    """Two runs of one process group save the same step."""
    for name in ("first", "second"):

        def write(step: Path, name: str = name) -> Iterator[Path]:
            path = step / f"{name}_{ranks.rank}.bin"
            path.write_bytes(b"weights")
            yield path

        store = CheckpointStore(folder / name, ranks=ranks)
        writer = BackgroundWriter(store, ranks)
        writer.start(1, store.begin(1), write=write, write_last=nothing)
        writer.finish()
        assert not problems_of(store.path(1))
    return store.steps()


def test_runs_of_one_process_group_do_not_mix(tmp_path: Path) -> None:
    assert run_distributed(_two_stores, 2, tmp_path) == [[1], [1]]
    found = {path.name for path in (tmp_path / "second" / "step_1").iterdir()}
    assert found == {"second_0.bin", "second_1.bin", "manifest.json"}
