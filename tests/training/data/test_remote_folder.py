"""A prepared folder behind a URL: read by ranges until its copy is complete, or refused."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import small
from tests.file_server import FileServer
from tests.ranks import ROOT, run_ranks
from tests.training.data.packing import random_examples, write
from training.config import TrainConfig, resolved
from training.data.dataset import SequenceDataset
from training.data.integrity import Integrity
from training.data.prepare import prepare
from training.data.remote_folder import RemoteFile, mirror, url_of
from training.errors import ConfigError, DataError
from training.files import read_json, write_json


def served(folder: Path) -> FileServer:
    files = (path for path in folder.rglob("*") if path.is_file())
    return FileServer({f"d/{path.relative_to(folder)}": path.read_bytes() for path in files})


@pytest.fixture
def original(tmp_path: Path) -> SequenceDataset:
    sequences = [[item] for item in random_examples(23)]
    return write(tmp_path / "made", sequences, sequence_length=64, sequences_per_shard=10)


@pytest.fixture
def server(original: SequenceDataset, tmp_path: Path) -> Iterator[FileServer]:
    with served(tmp_path / "made") as found:
        yield found


def opened(folder: Path, url: str) -> SequenceDataset:
    return SequenceDataset(
        folder,
        sequence_length=64,
        absent=lambda name: RemoteFile(url_of(url, name), folder / name),
    )


def test_sequences_are_read_by_ranges_and_then_from_the_copy(
    original: SequenceDataset, server: FileServer, tmp_path: Path
) -> None:
    url, copy = server.url("d"), tmp_path / "copy"
    mirror(url, copy)
    assert [path.name for path in copy.iterdir()] == ["manifest.json"]
    dataset = opened(copy, url)
    assert len(dataset) == 23 and dataset.fingerprint == original.fingerprint
    for found, number in zip(dataset.sequences(range(23)), range(23), strict=True):
        assert found.tokens.tolist() == original.sequence(number).tokens.tolist()
        assert found.modes.tolist() == original.sequence(number).modes.tolist()
    assert not list(copy.glob("*.bin"))
    integrity = Integrity(copy, url=url)
    integrity._thread.join()  # pyright: ignore[reportPrivateUsage]
    assert not integrity.problem and len(list(copy.glob("*.bin"))) == 3
    server.files.clear()  # the copy needs it no longer
    assert dataset.sequence(22).tokens.tolist() == original.sequence(22).tokens.tolist()


def test_the_end_of_a_run_does_not_wait_for_shards_that_it_did_not_need(
    server: FileServer, tmp_path: Path
) -> None:
    url, copy = server.url("d"), tmp_path / "copy"
    mirror(url, copy)
    first, goes_on = threading.Event(), threading.Event()

    def hold(path: str, start: int) -> None:
        first.set()
        assert goes_on.wait(30)

    server.before_range = hold
    integrity = Integrity(copy, url=url)
    assert first.wait(30)
    waiting = threading.Thread(target=integrity.wait)
    waiting.start()
    goes_on.set()
    waiting.join(30)
    assert not integrity.problem
    assert len(list(copy.glob("rows_*"))) < 6


def test_changed_shards_are_found_and_a_changed_manifest_is_refused(
    server: FileServer, tmp_path: Path
) -> None:
    url, copy = server.url("d"), tmp_path / "copy"
    mirror(url, copy)
    mirror(url, copy)  # a second attempt
    content = server.files["d/rows_00001.bin"]
    server.files["d/rows_00001.bin"] = bytes(100) + content[100:]
    integrity = Integrity(copy, url=url)
    integrity._thread.join()  # pyright: ignore[reportPrivateUsage]
    assert "rows_00001.bin has changed" in integrity.problem and url in integrity.problem
    changed: dict[str, Any] = json.loads(server.files["d/manifest.json"])
    changed["facts"]["sequences"] = 24
    server.files["d/manifest.json"] = json.dumps(changed).encode()
    with pytest.raises(DataError, match=r"is a copy of other data than data\.remote"):
        mirror(url, copy)


def test_what_is_no_prepared_folder_is_refused(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no URL of a prepared data folder"):
        mirror("d", tmp_path / "copy")
    with pytest.raises(DataError, match=r"manifest\.json cannot be read"):
        mirror(server.url("other"), tmp_path / "copy")
    (tmp_path / "copy").mkdir(exist_ok=True)
    (tmp_path / "copy" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds something that is no copy"):
        mirror(server.url("d"), tmp_path / "copy")


def test_two_ranks_train_from_a_url_as_from_a_folder(tmp_path: Path) -> None:
    config = small.prepared(tmp_path)
    tree = resolved(config)
    train = str(ROOT / "launch" / "train.py")
    write_json(tmp_path / "local.json", tree)
    run_ranks(2, [train, str(tmp_path / "local.json")], timeout=120)
    with served(config.data.folder) as server:
        tree["run"]["folder"] = str(tmp_path / "remote_run")
        tree["data"] |= {"folder": str(tmp_path / "copy"), "remote": server.url("d")}
        write_json(tmp_path / "remote.json", tree)
        with pytest.raises(ConfigError, match=r"leave data\.remote out"):
            prepare(TrainConfig.model_validate(tree))  # pyright: ignore[reportArgumentType]
        dry = run_ranks(1, [train, str(tmp_path / "remote.json"), "--dry-run"], timeout=120)
        assert "starts, from random weights" in dry[0].stdout and not (tmp_path / "copy").exists()
        run_ranks(2, [train, str(tmp_path / "remote.json")], timeout=120)
        again = run_ranks(1, [train, str(tmp_path / "remote.json"), "--dry-run"], timeout=120)
        assert "nothing to do" in again[0].stdout
    losses = [
        [
            json.loads(line)["train/loss"]
            for line in (folder / "metrics.jsonl").read_text().splitlines()
        ]
        for folder in (tmp_path / "run", tmp_path / "remote_run")
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 10
    assert read_json(tmp_path / "copy" / "manifest.json") == read_json(
        config.data.folder / "manifest.json"
    )
