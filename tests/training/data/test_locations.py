"""Sources behind a URL: listed, fetched one ahead, kept within the cache's limit."""

import gzip
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.file_server import FileServer
from training import remote
from training.config import SourceConfig
from training.data import sources
from training.data.locations import FetchCache
from training.errors import DataError

PROGRAM = "    return 7"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setattr(remote, "_FIRST_PAUSE_SECONDS", 0.001)


def shards(number: int, size: int = 30) -> dict[str, bytes]:
    def lines(shard: int) -> bytes:
        rows = ({"question": f"Q {shard} {row}?", "program": PROGRAM} for row in range(size))
        return "".join(json.dumps(row) + "\n" for row in rows).encode()

    return {
        f"set/data/train-{shard:05d}-of-{number:05d}.jsonl": lines(shard) for shard in range(number)
    }


def source(server: FileServer, cache: Path, path: str = "set", **settings: Any) -> SourceConfig:
    return SourceConfig.model_validate(
        {
            "kind": "jsonl",
            "path": server.url(path),
            "cache_folder": str(cache),
            "cache_gib": 1,
            **settings,
        }
    )


def questions(config: SourceConfig) -> list[str]:
    return [row["question"] for row in sources.rows(config)]


def test_a_folder_behind_a_url_is_read_in_order_and_kept(tmp_path: Path) -> None:
    expected = [f"Q {shard} {row}?" for shard in range(3) for row in range(30)]
    with FileServer(shards(3) | {"set/README.md": b"#"}) as server:
        config = source(server, tmp_path / "cache")
        assert questions(config) == expected
        num_ranges = sum(map(len, server.ranges.values()))
        assert questions(config) == expected
        assert sum(map(len, server.ranges.values())) == num_ranges, "read from the cache"
        assert questions(source(server, tmp_path / "cache", num_examples=31)) == expected[:31]
        one = "set/data/train-00001-of-00003.jsonl"
        assert questions(source(server, tmp_path / "cache", one)) == expected[30:60]
        server.files["set/b.jsonl.gz"] = gzip.compress(server.files[one])
        assert questions(source(server, tmp_path / "cache", "set/b.jsonl.gz")) == expected[30:60]


def test_the_next_file_arrives_while_this_one_is_read(tmp_path: Path) -> None:
    names = list(shards(3))
    arrived = {name: threading.Event() for name in names}
    with FileServer(shards(3)) as server:
        server.before_range = lambda path, start: arrived[path].set()
        reading = sources.chunks(source(server, tmp_path), 10)
        next(reading)
        assert arrived[names[1]].wait(30)
        assert not arrived[names[2]].is_set(), "one ahead"
        assert len(list(reading)) == 8 and arrived[names[2]].is_set()


def test_a_missing_or_unreachable_file_is_named(tmp_path: Path) -> None:
    with FileServer(shards(3)) as server:
        missing = server.files.pop("set/data/train-00001-of-00003.jsonl")
        with pytest.raises(DataError, match="2 of 3 files: data/train-00001-of-00003 is missing"):
            questions(source(server, tmp_path))
        server.files["set/data/train-00001-of-00003.jsonl"] = missing
        server.faults["set/data/train-00002-of-00003.jsonl"] = ["503"] * 100
        with pytest.raises(DataError, match="train-00002-of-00003.jsonl cannot be read"):
            questions(source(server, tmp_path))
        with pytest.raises(DataError, match="nothing/"):
            questions(source(server, tmp_path, "nothing"))


def test_damage_is_named_by_url_or_counted(tmp_path: Path) -> None:
    name = "set/data/train-00000-of-00001.jsonl"
    with FileServer({name: shards(1, 3).popitem()[1] + b"no JSON\n"}) as server:
        with pytest.raises(DataError, match=rf"{server.url(name)}, line 4 is not JSON"):
            list(sources.rows(source(server, tmp_path)))
        assert len(list(sources.rows(source(server, tmp_path, damaged="skip")))) == 4


def test_a_file_that_changes_before_its_turn_is_refused(tmp_path: Path) -> None:
    last = "set/data/train-00002-of-00003.jsonl"
    with FileServer(shards(3)) as server:
        before = sources.found_at(source(server, tmp_path)).fingerprint()
        reading = sources.chunks(source(server, tmp_path), 10)
        next(reading)
        server.files[last] = server.files[last].replace(b"Q", b"P")
        with pytest.raises(DataError, match="train-00002-of-00003.jsonl has changed"):
            list(reading)
        assert sources.found_at(source(server, tmp_path)).fingerprint() != before
        assert questions(source(server, tmp_path))[-1] == "P 2 29?"


def test_the_cache_drops_what_was_used_longest_ago(tmp_path: Path) -> None:
    files = {f"{name}.bin": name.encode() * 100 for name in "abcde"}
    with FileServer(files) as server:
        cache = FetchCache(tmp_path, 250)

        def fetch(name: str) -> Path:
            return cache.path(server.url(name), remote.facts(server.url(name)))

        paths = [fetch(name) for name in ("a.bin", "b.bin", "a.bin", "c.bin")]
        kept = {path.name for path in tmp_path.glob("*/*")}
        assert kept == {"a.bin", "c.bin"} and paths[0] == paths[2]
        assert fetch("b.bin").read_bytes() == files["b.bin"], "fetched again"
        server.files["e.bin"] = b"e" * 1000
        assert fetch("e.bin").is_file(), "larger than the limit"
        assert len(list(tmp_path.glob("*/*"))) == 2, "the newest one stays: it may be being read"
