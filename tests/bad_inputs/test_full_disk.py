"""A real disk that is full: one message and code 2, an alert, and nothing older is lost.

The disk is a tmpfs in a mount namespace of its own, made smaller under a run that is there.
"""

import json
import os
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from tests import small
from tests.bad_inputs.harness import Site, run_verb
from training.config import resolved
from training.verification import problems_of

FULL_DISK = "tests.bad_inputs.full_disk"
ROOM = 1 << 20
"""Bytes for what is written first, before anything can be judged by it."""


class Disk:
    """A tmpfs at a folder, in a mount namespace that a process holds."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._holder = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", f"mount -t tmpfs none '{folder}' && echo ready; read x"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None and self._holder.stderr is not None
        self.is_there = self._holder.stdout.readline() == "ready\n"

    @property
    def process(self) -> str:
        """Whose namespace it is mounted in."""
        return str(self._holder.pid)

    @property
    def path(self) -> Path:
        """The folder as this process sees it."""
        return Path(f"/proc/{self._holder.pid}/root{self._folder}")

    def leave(self, num_bytes: int | None = None, num_inodes: int | None = None) -> None:
        """Make it so small that this is left; without a number, as large as is needed."""
        facts = os.statvfs(self.path)
        used = (facts.f_blocks - facts.f_bfree) * facts.f_frsize
        size = used + num_bytes if num_bytes is not None else 1 << 28
        inodes = facts.f_files - facts.f_ffree + num_inodes if num_inodes is not None else 1 << 20
        options = f"remount,size={size},nr_inodes={inodes}"
        command = ["nsenter", "-t", self.process, "-m", "mount", "-o", options, str(self._folder)]
        subprocess.run(command, check=True)

    def close(self) -> None:
        """End the process, and the disk with it."""
        self._holder.communicate("\n")


@pytest.fixture
def disk(site: Site) -> Generator[Disk, None, None]:
    made = Disk(site.folder / "disk")
    if not made.is_there:
        made.close()
        pytest.skip("no file system can be mounted here (that takes root and mount namespaces)")
    yield made
    made.close()


def _content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("num_ranks", [1, 2], ids=["1 rank", "2 ranks"])
def test_a_full_disk_loses_nothing_and_the_run_resumes(
    site: Site, disk: Disk, num_ranks: int
) -> None:
    site.trained()
    run = disk.path / "run"
    subprocess.run(["cp", "-r", str(site.folder / "run"), str(disk.path)], check=True)
    config = site.config(
        run={"folder": str(site.folder / "disk" / "run"), "name": "small"},
        training={"max_steps": 12},
    )
    checkpoints = run / "checkpoints"
    step_bytes = sum(len(content) for content in _content(checkpoints / "step_10").values())
    before = _content(checkpoints)

    def train(estimate: str) -> tuple[list[int | None], str]:
        argv = [disk.process, estimate, "train", config]
        ended = run_verb(FULL_DISK, argv, num_ranks, site.folder)
        return [code for code, _, _ in ended], "\n".join(err for _, _, err in ended).strip()

    def refused(estimate: str, case: object) -> str:
        codes, said = train(estimate)
        assert codes == [2] * num_ranks, (case, said)
        assert "Traceback" not in said, (case, said)
        assert said.count("full_disk.py: ") == 1, (case, said)
        assert _content(checkpoints) == before, case
        assert problems_of(checkpoints / "step_10") == []
        alerts = (run / "alerts.jsonl").read_text().splitlines()
        (run / "alerts.jsonl").unlink()
        assert len(alerts) == 1, (case, alerts)
        assert json.loads(alerts[0])["title"].startswith("the run failed: "), case
        assert json.loads(alerts[0])["text"] in said, case
        return said

    disk.leave(num_bytes=step_bytes // 2)
    said = refused("seen", "estimated")
    assert "the checkpoint of step 12 takes about" in said and "are free" in said
    assert "resumes from step 10" in said
    disk.leave(num_inodes=20)
    said = refused("seen", "inodes")
    assert "files and folders" in said and "inodes" in said
    disk.leave(num_bytes=1 << 24, num_inodes=40)
    assert "no space left" in refused("unseen", "inodes are used up")
    for share in (0.05, 0.5, 0.97):
        disk.leave(num_bytes=int(share * step_bytes))
        said = refused("unseen", share)
        assert "no space left: " in said and "/step_12.tmp/" in said, (share, said)
        assert "bytes are free" in said and "at the checkpoint of step 12" in said
        assert "it resumes from step 10" in said
        assert num_ranks == 1 or "(on rank " in said
    disk.leave()
    codes, said = train("seen")
    assert codes == [0] * num_ranks, said
    assert problems_of(checkpoints / "step_12") == []


def _refused(site: Site, argv: list[str], num_ranks: int) -> str:
    ended = run_verb(FULL_DISK, argv, num_ranks, site.folder)
    said = "\n".join(err for _, _, err in ended).strip()
    assert [code for code, _, _ in ended] == [2] * num_ranks, said
    assert "Traceback" not in said and said.count("full_disk.py: ") == 1, said
    return said


def test_prepare_looks_for_room_after_its_first_part_and_resumes_later(
    site: Site, disk: Disk
) -> None:
    data = resolved(small.config(site.folder).data)
    data |= {
        "folder": str(site.folder / "disk" / "data"),
        "sources": [{"kind": "problems", "num_examples": 6_000}],
    }
    config = site.config(data=data)
    disk.leave(num_bytes=ROOM)
    said = _refused(site, [disk.process, "seen", "prepare", config], 1)
    assert "the rest of the prepared data takes about " in said and "are free" in said
    parts = disk.path / "data.parts"
    made = {path.name for path in parts.glob("part-*")}
    assert made and not (disk.path / "data").exists()
    disk.leave(num_bytes=1 << 14)
    said = _refused(site, [disk.process, "unseen", "prepare", config], 1)
    assert "no space left: " in said and "/data.parts/" in said, said
    assert made <= {path.name for path in parts.glob("part-*")}
    disk.leave()
    argv = [disk.process, "seen", "prepare", config]
    ((code, _, err),) = run_verb(FULL_DISK, argv, 1, site.folder)
    assert code == 0, err
    assert (disk.path / "data" / "manifest.json").is_file() and not parts.exists()


@pytest.mark.parametrize("num_ranks", [1, 2], ids=["1 rank", "2 ranks"])
@pytest.mark.parametrize("verb", ["sample", "evaluate"])
def test_candidates_look_for_room_after_the_first_part(
    site: Site, disk: Disk, verb: str, num_ranks: int
) -> None:
    model = str(site.trained().newest)
    questions = {"name": "q", "kind": "problems", "num_questions": 400}
    settings = {
        "temperatures": [1.0],
        "num_candidates": 1,
        "questions_per_part": 1,
        "max_new_tokens": 4,
    }
    stage, left = (
        ({"sampling": {**settings, "checkpoints": [model], "questions": questions}}, 399)
        if verb == "sample"
        # The parts of a benchmark become one file in the end: they are written twice.
        else ({"evaluation": {**settings, "generator": model, "benchmarks": [questions]}}, 799)
    )
    run = {"folder": str(site.folder / "disk" / verb)}
    tree = {"run": run, "tracking": {"mode": "disabled"}, **stage}
    config = site.write("config.json", json.dumps(tree))
    disk.leave(num_bytes=ROOM)
    said = _refused(site, [disk.process, "seen", verb, config], num_ranks)
    assert f"the rest of the parts ({left} like part-0000" in said and "are free" in said, said
