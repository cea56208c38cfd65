# pyright: reportPrivateUsage=false
"""How prepare resumes, divides its work and replaces folders."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pytest

from parallel.workers.array import ArrayTask
from parallel.workers.pool import WorkerPool
from tests.ranks import ROOT
from tests.training.data.preparing import PROBLEMS, config, content, jsonl, row
from training.config import resolved
from training.data import parts
from training.data import prepare as prepare_module
from training.data.prepare import prepare, prepare_array_task
from training.data.tokenizer import Tokenizer
from training.errors import ConfigError, DataError
from training.lifecycle.attempts import parts_folder


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_prepare_resumes_from_its_parts(
    tmp_path: Path, stop: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = (f"Ann has {number} apples and buys 4. How many?" for number in range(20_000))
    many = jsonl(tmp_path, *map(row, names))
    wanted = config(tmp_path / "data", many, num_workers=2)
    toml = tmp_path / "train.json"
    tree = {"run": {"folder": str(tmp_path / "run")}, "data": resolved(wanted.data)}
    toml.write_text(json.dumps(tree))
    process = subprocess.Popen(
        [sys.executable, "launch/prepare.py", str(toml)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while not (made := list(tmp_path.glob("data.parts/part-*.parquet"))):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, stop)
    _, errors = process.communicate(timeout=120)
    assert not (tmp_path / "data").exists()
    if stop != signal.SIGKILL:
        assert process.returncode == 130 and "stopping at the next check" in errors
    (tmp_path / "data.parts" / "packed-0").mkdir()  # as a kill leaves it while packing
    written: list[Path] = []
    write = parts.write

    def recorded(path: Path, converted: parts.Converted, *, made_from: str) -> None:
        written.append(path)
        write(path, converted, made_from=made_from)

    monkeypatch.setattr(parts, "write", recorded)
    facts = prepare(wanted, WorkerPool(1))
    assert written and not set(written) & set(made)
    assert facts == prepare(config(tmp_path / "uninterrupted", many))
    assert content(tmp_path / "data") == content(tmp_path / "uninterrupted")
    assert not (tmp_path / "data.parts").exists()


def test_a_source_that_breaks_off_costs_no_part(tmp_path: Path) -> None:
    names = [f"Ann has {number} apples and buys 4. How many?" for number in range(1500)]
    source = jsonl(tmp_path, *map(row, names))
    path = tmp_path / "rows.jsonl"
    whole = path.read_text()
    # So that its first rows, which the tokenizer learns from, are sound.
    path.write_text(whole + "{" + "\n")
    tokenizer = {"source": str(tmp_path / "tokenizer")}
    Tokenizer.train(names, vocab_size=400).save(tmp_path / "tokenizer")
    with pytest.raises(DataError, match=r"rows\.jsonl"):
        prepare(config(tmp_path / "data", source, tokenizer=tokenizer))
    assert [path.name for path in (tmp_path / "data.parts").glob("p*")] == ["part-000000.parquet"]
    path.write_text(whole)
    assert prepare(config(tmp_path / "data", source, tokenizer=tokenizer))["examples"] == 1500


def test_a_part_that_is_damaged_while_it_waits_is_named(tmp_path: Path) -> None:
    wanted = config(tmp_path / "data", PROBLEMS)
    assert prepare_array_task(wanted, ArrayTask(1, 2)) is None
    (part,) = (tmp_path / "data.parts").glob("part-*")
    whole = part.read_bytes()
    part.write_bytes(whole[:1000] + bytes(255 - byte for byte in whole[1000:1100]) + whole[1100:])
    with pytest.raises(DataError, match=r"part-000000\.parquet.* is damaged: remove it"):
        prepare(wanted)
    part.unlink()
    assert prepare(wanted)["sequences"] > 0


@pytest.mark.parametrize("after_sequences", [0, 1])
def test_an_attempt_that_ends_while_it_packs_changes_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after_sequences: int
) -> None:
    wanted = config(tmp_path / "data", PROBLEMS, {**PROBLEMS, "seed": 2})
    packed = prepare_module.packed

    def interrupted(*arguments: Any, **settings: Any) -> Any:
        yield from islice(packed(*arguments, **settings), after_sequences)
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare_module, "packed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(wanted)
    assert sorted(path.name for path in (tmp_path / "data.parts").glob("p*")) == [
        f"part-{number:06d}.parquet" for number in range(4)
    ]
    monkeypatch.setattr(prepare_module, "packed", packed)
    assert prepare(wanted) == prepare(config(tmp_path / "alone", PROBLEMS, {**PROBLEMS, "seed": 2}))
    assert content(tmp_path / "data") == content(tmp_path / "alone")


def test_parts_of_another_config_are_made_again_and_nothing_is_left(tmp_path: Path) -> None:
    assert prepare_array_task(config(tmp_path / "data", PROBLEMS), ArrayTask(1, 2)) is None
    assert list((tmp_path / "data.parts").glob("part-*"))
    prepare(config(tmp_path / "data", PROBLEMS, train_on_prompt=True))
    prepare(config(tmp_path / "uninterrupted", PROBLEMS, train_on_prompt=True))
    assert content(tmp_path / "data") == content(tmp_path / "uninterrupted")
    assert not (tmp_path / "data.parts").exists()


def test_jobs_that_share_the_work_write_the_same_bytes(tmp_path: Path) -> None:
    sources = (PROBLEMS | {"num_examples": 2100}, PROBLEMS | {"num_examples": 1030, "seed": 5})
    facts = prepare(config(tmp_path / "alone", *sources))
    shared = config(tmp_path / "shared", *sources)
    assert prepare_array_task(shared, ArrayTask(3, 3)) is None
    assert prepare_array_task(shared, ArrayTask(1, 3)) is None
    assert not (tmp_path / "shared").exists()
    assert prepare_array_task(shared, ArrayTask(2, 3)) == facts
    assert content(tmp_path / "shared") == content(tmp_path / "alone")
    assert prepare_array_task(shared, ArrayTask(1, 3)) == facts, "up to date"


def test_a_second_prepare_leaves_the_first_what_it_packs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = config(tmp_path / "data", PROBLEMS)
    pack = prepare_module._pack

    def killed(*_: Any) -> Any:
        raise KeyboardInterrupt

    def packing(work: Any, converted: Any, folder: Path) -> Any:
        made = next(converted)
        folder.mkdir()
        monkeypatch.setattr(prepare_module, "_pack", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(wanted)
        assert folder.is_dir()
        monkeypatch.setattr(prepare_module, "_pack", pack)
        return pack(work, chain([made], converted), folder)

    monkeypatch.setattr(prepare_module, "_pack", packing)
    assert prepare(wanted) == prepare(config(tmp_path / "alone", PROBLEMS))
    assert not (tmp_path / "data.parts").exists()


def test_whoever_is_slower_takes_what_the_faster_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = prepare(config(tmp_path / "alone", PROBLEMS))
    pack, write = prepare_module._pack, parts.write

    def packing(work: Any, converted: Any, folder: Path) -> Any:
        made = next(converted)
        monkeypatch.setattr(prepare_module, "_pack", pack)
        assert prepare(wanted) == facts
        return pack(work, chain([made], converted), folder)

    def writing(path: Path, converted: parts.Converted, *, made_from: str) -> None:
        monkeypatch.setattr(parts, "write", write)
        assert prepare(wanted) == facts
        parts.write(path, converted, made_from=made_from)
        parts.refuse_others(path.parent)  # the folder has its mark

    wanted = config(tmp_path / "packed", PROBLEMS)
    monkeypatch.setattr(prepare_module, "_pack", packing)
    assert prepare(wanted) == facts
    wanted = config(tmp_path / "shared", PROBLEMS)
    monkeypatch.setattr(parts, "write", writing)
    assert prepare_array_task(wanted, ArrayTask(2, 2), WorkerPool(1)) == facts
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "packed", "shared"]


def test_only_what_prepare_wrote_is_replaced(tmp_path: Path) -> None:
    source = jsonl(tmp_path, row())
    data = tmp_path / "data"
    data.mkdir()  # an empty one may be
    prepare(config(data, source))
    before = content(data)
    for path in ("notes.txt", "tokenizer/notes.txt", "mine/notes.txt"):
        (data / path).parent.mkdir(exist_ok=True)
        (data / path).write_text("mine")
        assert prepare(config(data, source))["sequences"] == 1, (
            "up to date, with whatever else is there"
        )
        with pytest.raises(FileExistsError, match=r"holds (mine|.*notes\.txt)"):
            prepare(config(data, source, train_on_prompt=True))
        assert (data / path).read_text() == "mine"
        (data / path).unlink()
        assert content(data) == before and not (tmp_path / "data.parts").exists()
    (data / "mine").rmdir()
    prepare(config(data, source, train_on_prompt=True))
    assert content(data) != before and [*data.parent.glob("data*")] == [data]


def test_a_mount_point_is_refused_before_hours_of_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path / "data")
    with pytest.raises(FileExistsError, match="is a mount point.*data.folder to a folder in it"):
        prepare(config(tmp_path / "data"))
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_file_that_appears_while_it_prepares_stops_the_replacement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = jsonl(tmp_path, row())
    prepare(config(tmp_path / "data", source))
    packed = prepare_module.packed

    def slowly(*arguments: Any, **settings: Any) -> Any:
        (tmp_path / "data" / "notes.txt").write_text("mine")
        return packed(*arguments, **settings)

    monkeypatch.setattr(prepare_module, "packed", slowly)
    with pytest.raises(FileExistsError, match=r"holds notes\.txt"):
        prepare(config(tmp_path / "data", source, train_on_prompt=True))
    assert (tmp_path / "data" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "data" / "rows_00000.bin").exists()


def test_parts_beside_other_files_are_removed_alone(tmp_path: Path) -> None:
    source = jsonl(tmp_path, row())
    folder = tmp_path / "data.parts"
    folder.mkdir()
    prepare(config(tmp_path / "data", source))  # an empty folder is taken
    assert not folder.exists()
    assert prepare_array_task(config(tmp_path / "other", source), ArrayTask(2, 2)) is None
    marked = tmp_path / "other.parts"
    assert marked.is_dir()
    (marked / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"other\.parts holds notes\.txt"):
        prepare(config(tmp_path / "other", source))
    parts.remove(marked)
    assert [path.name for path in marked.iterdir() if path.suffix == ".txt"] == ["notes.txt"]
    assert not list(marked.glob("part-*")) and not list(marked.glob("tokenizer-*"))


def test_a_folder_named_by_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.folder = '\.' has no name of its own"):
        parts_folder(Path("."))
