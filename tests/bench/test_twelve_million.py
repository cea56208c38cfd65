"""The full run at a small size: it measures, continues, and notices what it has to notice."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bench.test_stand_in import gsm8k_train
from tests.bench.twelve_million import order
from tests.bench.twelve_million.attempts import Attempt
from tests.bench.twelve_million.run import MAX_FAILURES, Run, Settings, Step, StepFailed
from tests.ranks import ROOT
from training.config import PrepareConfig
from training.data.loader import Loader
from training.data.prepare import prepare

_SETTINGS = Settings(
    rows=600,
    shards=2,
    seed=1,
    sequence_length=512,
    ngram=13,
    train_steps=2,
    resumes=3,
    tokenizer="train",
    gsm8k="gsm8k",
    run_programs=True,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "data"
    settings = {
        "folder": str(folder),
        "sources": [{"kind": "problems", "num_examples": 1500}],
        "tokenizer": {"source": "train", "vocab_size": 400},
        "sequence_length": 512,
        "num_workers": 1,
        "run_programs": False,
    }
    prepare(PrepareConfig.model_validate({"data": settings}))
    return folder


def _check(data: Path, seed: int = 1) -> dict[str, Any]:
    return order.check(data, sequence_length=512, resumes=4, seed=seed)


def test_the_order_is_the_same_over_ranks_and_after_resumes(data: Path) -> None:
    found = _check(data)
    assert found["ranks"] == [1, 2, 3, 4, 7] and found["sequences"] > 84
    assert len(found["batches_compared_at"]) == len(found["resumed_at"]) == 4
    assert found["resumed_at"] == _check(data)["resumed_at"] != _check(data, seed=2)["resumed_at"]


def test_an_order_that_depends_on_the_ranks_is_noticed(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Loader.next_indices

    def wrong(self: Loader) -> list[list[int]]:
        indices = right(self)
        return indices[::-1] if len(indices) * 3 == 84 * (len(indices) * 3 // 84) else indices

    monkeypatch.setattr(Loader, "next_indices", wrong)
    with pytest.raises(order.OrderError, match="ranks take other sequences than one at 0"):
        _check(data)


def test_a_sequence_that_comes_twice_is_noticed(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Loader.next_indices
    monkeypatch.setattr(
        Loader,
        "next_indices",
        lambda self: np.maximum(right(self), 1).tolist(),  # never the first
    )
    with pytest.raises(order.OrderError, match="2 sequences do not come once"):
        _check(data)


def test_a_state_that_forgets_a_step_is_noticed(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Loader.load_state_dict

    def wrong(self: Loader, state: dict[str, Any]) -> None:
        right(self, state)
        if self._world_size > 1:  # pyright: ignore[reportPrivateUsage]
            self.consumed_sequences += 84

    monkeypatch.setattr(Loader, "load_state_dict", wrong)
    with pytest.raises(order.OrderError):
        _check(data)


_BUSY = (
    "import os, subprocess, sys, time\n"
    "held = bytearray(60_000_000)\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "print(child.pid, flush=True)\n"
    "end = time.process_time() + float(sys.argv[1])\n"
    "while time.process_time() < end: pass\n"
    "child.kill()\n"
)


def _busy(tmp_path: Path, seconds: float) -> Attempt:
    return Attempt([sys.executable, "-c", _BUSY, str(seconds)], tmp_path / "log")


def test_an_attempt_is_measured(tmp_path: Path) -> None:
    attempt = _busy(tmp_path, 1.0)
    while attempt.is_running():
        attempt.wait(0.05)
    usage = attempt.usage
    assert usage.exit_code == 0 and not usage.was_killed
    assert 0.5 <= usage.cpu_seconds <= 10
    assert 60_000_000 < usage.largest_process_bytes <= usage.peak_bytes + 60_000_000


def test_a_kill_ends_every_process_of_the_attempt(tmp_path: Path) -> None:
    attempt = _busy(tmp_path, 600)
    while not (text := (tmp_path / "log").read_text().strip()):
        time.sleep(0.02)
    assert attempt.is_running()
    attempt.kill()
    assert not attempt.is_running() and attempt.usage.was_killed
    deadline = time.monotonic() + 30
    while _is_alive(int(text)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_alive(pid: int) -> bool:
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and path.read_text().rpartition(")")[2].split()[0] != "Z"


def _step(tmp_path: Path, code: str) -> Step:
    return Step(
        name="step",
        command=(sys.executable, "-c", code, str(tmp_path / "made")),
        is_killed=True,
        facts=lambda: {"made": (tmp_path / "made").read_text()},
    )


def test_a_step_runs_once_to_its_end_over_kills(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", _SETTINGS, 1)
    slow = "import sys, time; time.sleep(2); open(sys.argv[1], 'a').write('x')"
    run.finish(_step(tmp_path, slow), kills=[0.2, 0.4])
    record = json.loads((tmp_path / "run" / "run.json").read_text())["steps"]["step"]
    assert [each["was_killed"] for each in record["attempts"]] == [True, True, False]
    assert record["facts"] == {"made": "x"}
    Run(tmp_path / "run", _SETTINGS, 1).finish(_step(tmp_path, slow))
    assert (tmp_path / "made").read_text() == "x"


def test_a_step_that_fails_ends_the_run(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", _SETTINGS, 1)
    with pytest.raises(StepFailed, match=r"step failed: see .*step\.log"):
        run.finish(_step(tmp_path, "raise SystemExit(3)"))
    assert len(run.record["steps"]["step"]["attempts"]) == MAX_FAILURES


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path, _SETTINGS, 1)
    run.finish(_step(tmp_path, "import sys; open(sys.argv[1], 'w').write('x')"))
    with pytest.raises(SystemExit, match="other settings"):
        Run(tmp_path, replace(_SETTINGS, seed=2), 1)


@pytest.mark.slow
def test_the_whole_run_at_a_small_size(tmp_path: Path) -> None:
    gsm8k_train(tmp_path)
    (tmp_path / "test.jsonl").write_text(
        json.dumps({"question": "Who ate 3 of the 4 green plums in Rome?", "answer": "#### 3"})
    )
    command = [sys.executable, "-m", "tests.bench.twelve_million", str(tmp_path / "work")]
    command += ["--rows", "1500", "--shards", "3", "--sequence-length", "512", "--resumes", "3"]
    command += ["--train-steps", "2", "--tokenizer", "train", "--gsm8k", str(tmp_path)]
    command += ["--kills", "2", "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    record = tmp_path / "work" / "run.json"

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, cwd=ROOT, env=environment)

    stopped = start()
    deadline = time.monotonic() + 200
    while not (record.is_file() and "prepare" in json.loads(record.read_text())["steps"]):
        assert stopped.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(timeout=100) == 130
    assert start().wait(timeout=500) == 0
    (written,) = (tmp_path / "work").glob("*_twelve_million.json")
    found = json.loads(written.read_text())
    assert list(found["steps"]) == ["write", "measure", "prepare", "order", "train"]
    assert found["steps"]["prepare"]["attempts"] >= 2
    assert found["steps"]["measure"]["facts"]["rows"] == 1500
    assert len(found["steps"]["train"]["facts"]["losses"]) == 2
    assert set(found["killed_and_equal"]) == {"write", "prepare"}
    page = written.with_suffix(".md").read_text()
    assert "1,500 rows of the stand-in" in page and str(tmp_path) not in page
    assert str(tmp_path) not in json.dumps(found)
