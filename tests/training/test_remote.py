"""Files by URL, from a server on loopback that fails on demand."""

import multiprocessing
import os
import sys
from pathlib import Path

import pytest

from tests.file_server import FileServer
from training import remote
from training.errors import DataError

CONTENT = bytes(range(256)) * 400
PIECE = 10_000
NAME = "data/a.bin"


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setattr(remote, "_PIECE_BYTES", PIECE)
    monkeypatch.setattr(remote, "_FIRST_PAUSE_SECONDS", 0.001)


def test_urls_are_told_from_paths_and_hub_ids() -> None:
    for url in ("s3://b/k", "gs://b/k", "https://h/x", "hf://datasets/a/b", "memory:///a"):
        assert remote.is_url(url)
    for path in ("TinyGSM/TinyGSM", "/data/s3", "s3://", "ftp://h/x", "data.jsonl"):
        assert not remote.is_url(path)


def test_a_file_is_fetched_in_pieces(tmp_path: Path) -> None:
    with FileServer({NAME: CONTENT}) as server:
        found = remote.facts(server.url(NAME))
        assert found.size == len(CONTENT) and found.version
        assert remote.fetch(server.url(NAME), tmp_path / "x" / "a", expected=found) == found
        assert (tmp_path / "x" / "a").read_bytes() == CONTENT
        assert [path.name for path in (tmp_path / "x").iterdir()] == ["a"]
        assert server.ranges[NAME][:2] == [(0, PIECE), (PIECE, 2 * PIECE)]
        assert remote.read_range(server.url(NAME), 5, 700) == CONTENT[5:700]
        assert remote.read_range(server.url(NAME), 5, 5) == b""


def test_what_fails_for_a_while_is_asked_again(tmp_path: Path) -> None:
    with FileServer({NAME: CONTENT}) as server:
        server.faults[NAME] = ["503", "cut", "429", "500"]
        remote.fetch(server.url(NAME), tmp_path / "a")
        assert (tmp_path / "a").read_bytes() == CONTENT
        assert not server.faults[NAME]


def test_what_stays_broken_is_named_and_resumes_where_it_stopped(tmp_path: Path) -> None:
    with FileServer({NAME: CONTENT}) as server:

        def break_down(path: str, start: int) -> None:
            if start >= 3 * PIECE:
                server.faults[path] = ["503"]

        server.before_range = break_down
        with pytest.raises(DataError, match=r"a\.bin cannot be read.*503"):
            remote.fetch(server.url(NAME), tmp_path / "a")
        assert not (tmp_path / "a").exists()
        server.before_range = lambda path, start: None
        server.faults.clear()
        server.ranges.clear()
        remote.fetch(server.url(NAME), tmp_path / "a")
        assert (tmp_path / "a").read_bytes() == CONTENT
        assert server.ranges[NAME][0] == (3 * PIECE, 4 * PIECE)


def test_missing_files_are_not_asked_for_again() -> None:
    with FileServer({NAME: CONTENT}) as server:
        for read in (remote.facts, lambda url: remote.read_range(url, 0, 1)):
            with pytest.raises(DataError, match="no.bin cannot be read"):
                read(server.url("data/no.bin"))
        server.faults[NAME] = ["403"] * 2
        with pytest.raises(DataError, match="403"):
            remote.read_range(server.url(NAME), 0, 1)
        assert server.faults[NAME] == ["403"]


def test_a_source_that_changes_is_noticed(tmp_path: Path) -> None:
    with FileServer({NAME: CONTENT}) as server:
        before = remote.facts(server.url(NAME))
        other = bytes(reversed(CONTENT))

        def change(path: str, start: int) -> None:
            if start == 3 * PIECE:
                server.files[path] = other

        server.before_range = change
        with pytest.raises(DataError, match="has changed: it had 102,400 bytes"):
            remote.fetch(server.url(NAME), tmp_path / "a")
        assert not list(tmp_path.iterdir())
        with pytest.raises(DataError, match="has changed"):
            remote.fetch(server.url(NAME), tmp_path / "a", expected=before)
        remote.fetch(server.url(NAME), tmp_path / "a")
        assert (tmp_path / "a").read_bytes() == other


def test_what_was_fetched_of_an_older_version_is_not_continued(tmp_path: Path) -> None:
    with FileServer({NAME: CONTENT}) as server:
        server.before_range = lambda path, start: server.faults[path].extend(
            ["404"] if start else []
        )
        with pytest.raises(DataError):
            remote.fetch(server.url(NAME), tmp_path / "a")
        server.before_range = lambda path, start: None
        server.faults.clear()
        server.files[NAME] = CONTENT[1:] + b"!"
        remote.fetch(server.url(NAME), tmp_path / "a")
        assert (tmp_path / "a").read_bytes() == CONTENT[1:] + b"!"


def test_a_server_without_ranges_is_named() -> None:
    with FileServer({NAME: CONTENT}, has_ranges=False) as server:
        with pytest.raises(DataError, match="does not support ranges"):
            remote.read_range(server.url(NAME), 0, 10)


def _fetch(url: str, path: Path) -> None:
    remote.fetch(url, path)


def test_processes_that_fetch_one_file_share_the_work(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with FileServer({NAME: CONTENT}) as server:
        workers = [
            context.Process(target=_fetch, args=(server.url(NAME), tmp_path / "a"))
            for _ in range(3)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(120)
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
        assert os.listdir(tmp_path) == ["a"]
        assert (tmp_path / "a").read_bytes() == CONTENT


def test_the_files_of_a_folder_are_listed(tmp_path: Path) -> None:
    files = {"data/b.bin": b"bb", "data/a.bin": b"a", "data/more/c.bin": b"ccc", "other": b""}
    with FileServer(files) as server:
        found = remote.files_below(server.url("data/"))
        assert list(found) == [
            server.url("data/a.bin"),
            server.url("data/b.bin"),
            server.url("data/more/c.bin"),
        ]
        with pytest.raises(DataError, match="nothing/"):
            remote.files_below(server.url("nothing/"))


def test_local_files_have_urls_too(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    url = (tmp_path / "a").as_uri()
    before = remote.facts(url)
    assert remote.fetch(url, tmp_path / "b") == before
    assert (tmp_path / "b").read_bytes() == CONTENT
    listed = remote.files_below(tmp_path.as_uri())
    assert list(listed) == [url, (tmp_path / "b").as_uri()] and listed[url] == before
    (tmp_path / "a").write_bytes(CONTENT[1:] + b"!")
    assert remote.facts(url) != before


def test_a_missing_client_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(DataError, match=r"s3://bucket/key needs a package.*s3fs"):
        remote.facts("s3://bucket/key")
