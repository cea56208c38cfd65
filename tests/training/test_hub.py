"""Data sets of the hub: from its cache, and from a server on loopback that answers as the hub."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from tests import hub_cache
from tests.file_server import FileServer
from tests.ranks import ROOT
from training import manifest
from training.data import locations
from training.hub import Snapshot

REPOSITORY = "owner/stories"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER_COMMIT = COMMIT[::-1]

READ = """
import json, sys
from training.config import SourceConfig
from training.data import sources
source = SourceConfig.model_validate(json.loads(sys.argv[1]))
print(json.dumps([row["question"] for row in sources.rows(source)]))
print(sources.found_at(source).fingerprint())
"""


def shards(number: int = 2, total: int = 2, word: str = "apples") -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for shard in range(number):
        table = [
            {
                "question": f"Ann has {shard} {word} and buys {row}. How many are there?",
                "code": f'def f():\n    """\n    Question?\n    """\n    return {shard} + {row}\n',
            }
            for row in range(5)
        ]
        sink = pa.BufferOutputStream()
        parquet.write_table(pa.Table.from_pylist(table), sink)
        name = f"data/train-{shard:05d}-of-{total:05d}.parquet"
        found[name] = sink.getvalue().to_pybytes()
    return found


def served(files: dict[str, bytes]) -> dict[str, bytes]:
    """What the hub answers when it is asked for a commit, its files, and their contents."""
    listed = [
        {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
        for name, content in files.items()
    ]
    about = {"id": REPOSITORY, "sha": COMMIT, "siblings": []}
    api = f"api/datasets/{REPOSITORY}"
    return {
        f"{api}/revision/main": json.dumps(about).encode(),
        api: json.dumps(about).encode(),
        f"{api}/revision/{COMMIT}": json.dumps(about).encode(),
        f"{api}/tree/{COMMIT}": json.dumps(listed).encode(),
        f"{api}/tree/{COMMIT}/data": json.dumps(listed).encode(),
        **{
            f"datasets/{REPOSITORY}/resolve/{COMMIT}/{name}": content
            for name, content in files.items()
        },
    }


def run(home: Path, *command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def read(home: Path, environment: dict[str, str], **settings: Any) -> tuple[list[str], str]:
    source = {"kind": "parquet", "path": REPOSITORY, **settings}
    done = run(home, "-c", READ, json.dumps(source), **environment)
    assert done.returncode == 0, done.stderr
    questions, fingerprint = done.stdout.splitlines()
    return json.loads(questions), fingerprint


def prepare(home: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    changes = [
        f"data.folder={folder}",
        f'data.sources=[{{kind="parquet", path="{REPOSITORY}"}}]',
        "data.tokenizer.vocab_size=300",
        "data.run_programs=false",
        "data.num_workers=1",
    ]
    command = ["launch/prepare.py", "configs/generator_demo.toml", *changes]
    return run(home, *command, HF_HUB_OFFLINE="1")


def test_a_downloaded_set_is_prepared_without_a_network(tmp_path: Path) -> None:
    home = tmp_path / "home"
    hub_cache.lay_out(home, REPOSITORY, shards(), COMMIT)
    offline = {"HF_HUB_OFFLINE": "1"}
    done = prepare(home, tmp_path / "data")
    assert done.returncode == 0, done.stderr
    made = manifest.read(tmp_path / "data")
    assert made["facts"]["examples"] == 10
    before = made["inputs"]["data.sources.0"]
    again = prepare(home, tmp_path / "data")
    assert "up to date" in again.stderr + again.stdout
    # Another commit is another input.
    hub_cache.lay_out(home, REPOSITORY, shards(word="pens"), OTHER_COMMIT)
    assert prepare(home, tmp_path / "data").returncode == 0
    assert manifest.read(tmp_path / "data")["inputs"]["data.sources.0"] != before
    pinned = read(home, offline, revision=COMMIT)
    assert pinned[1] == before and "apples" in pinned[0][0]
    assert "pens" in read(home, offline)[0][0]


def test_a_set_that_was_not_downloaded_is_one_message(tmp_path: Path) -> None:
    done = prepare(tmp_path, tmp_path / "data")
    assert done.returncode == 2
    assert f"hf download {REPOSITORY} --repo-type dataset" in done.stderr
    hub_cache.lay_out(tmp_path, REPOSITORY, shards(number=1, total=3), COMMIT)
    done = prepare(tmp_path, tmp_path / "data")
    assert done.returncode == 2
    assert "holds 1 of 3 files: data/train-00001-of-00003 and 1 more are missing" in done.stderr


def test_the_hub_gives_each_file_when_it_is_read(tmp_path: Path) -> None:
    files = shards()
    with FileServer(served(files)) as server:
        server.headers["X-Repo-Commit"] = COMMIT
        online = {"HF_ENDPOINT": server.url().rstrip("/")}
        found, fingerprint = read(tmp_path, online)
        assert len(found) == 10
        url = f"hf://datasets/{REPOSITORY}@{COMMIT}/data"
        assert read(tmp_path, online, path=url, cache_folder=str(tmp_path / "cache"))[0] == found
    # The hub is gone: the cache holds the set, and which commit `main` is.
    unreachable = {"HF_HUB_OFFLINE": "1"}
    assert read(tmp_path, unreachable) == (found, fingerprint)


def test_a_commit_is_the_fingerprint_of_its_files() -> None:
    def fingerprint(commit: str, *names: str) -> str:
        found = Snapshot(repository=REPOSITORY, commit=commit, names=(), setting="")
        return locations.Repository(found).fingerprint(names)

    assert len({fingerprint(COMMIT, "a"), fingerprint(OTHER_COMMIT, "a"), fingerprint(COMMIT)}) == 3
