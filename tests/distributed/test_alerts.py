"""What people are alerted to: a hang, a loss that is not finite, a rank that died."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests import small
from tests.ranks import ROOT, kill_ranks, run_ranks, start_ranks
from tests.wandb_server import WandbServer
from training.config import TrainConfig, resolved
from training.files import write_json

TRAIN = str(ROOT / "launch" / "train.py")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    return small.prepared(
        tmp_path_factory.mktemp("alerts"),
        training={"max_steps": 5000, "checkpoint_every_steps": 5000},
        tracking={"mode": "auto"},
    )


def _config_file(data: TrainConfig, folder: Path, **changes: dict[str, Any]) -> str:
    tree = resolved(data)
    tree["run"]["folder"] = str(folder)
    for name, section in changes.items():
        tree[name] |= section
    write_json(folder.with_suffix(".json"), tree)
    return str(folder.with_suffix(".json"))


def _alerts(folder: Path) -> list[dict[str, Any]]:
    path = folder / "alerts.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 240
    while not path.is_file() or not path.stat().st_size:
        assert time.monotonic() < deadline, f"no {path.name}"
        time.sleep(0.05)


def test_a_hang_is_told_with_every_ranks_stacks_and_the_run_goes_on(
    data: TrainConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    path = _config_file(data, folder, training={"hang_minutes": 0.05})
    processes = start_ranks(2, [TRAIN, path])
    try:
        _wait_for(folder / "metrics.jsonl")
        processes[1].send_signal(signal.SIGSTOP)
        _wait_for(folder / "alerts.jsonl")
        time.sleep(6)  # two more times what is allowed: it is told once
        assert len(_alerts(folder)) == 1
        processes[1].send_signal(signal.SIGCONT)
        num_steps = len((folder / "metrics.jsonl").read_text().splitlines())
        deadline = time.monotonic() + 100
        while len((folder / "metrics.jsonl").read_text().splitlines()) <= num_steps + 3:
            assert time.monotonic() < deadline, "it does not go on"
            time.sleep(0.05)
        processes[0].send_signal(signal.SIGTERM)
        outputs = [process.communicate(timeout=100) for process in processes]
    finally:
        kill_ranks(processes)
    assert [process.returncode for process in processes] == [130, 130], outputs
    for rank, (_, errors) in enumerate(outputs):
        # The one that stood still notices, too, as soon as it can.
        assert f"for 0.05 minutes on rank {rank}; the stacks of its threads" in errors
        assert 'loop.py", line' in errors and "hang.py" in errors
    (alert,) = _alerts(folder)
    assert alert["title"] == "the run hangs" and "rank 0" in alert["text"]


def test_a_loss_that_is_not_finite_is_alerted_to(data: TrainConfig, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    wild = {"learning_rate": 1e18, "clip_norm": 0.0, "warmup_steps": 0}
    with WandbServer() as server:
        path = _config_file(data, folder, optimizer=wild)
        run_ranks(2, [TRAIN, path], check=False, extra=server.environment())
        (run,) = server.runs.values()
        assert run.alerts == ["the run failed: LossNotFinite"] and run.exit_code == 1
    (alert,) = _alerts(folder)
    assert "lower optimizer.learning_rate" in alert["text"]


def test_a_rank_that_dies_is_alerted_to(data: TrainConfig, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with WandbServer() as server:
        environment = server.environment()
        processes = start_ranks(2, [TRAIN, _config_file(data, folder)], environment)
        try:
            _wait_for(folder / "metrics.jsonl")
            os.killpg(processes[1].pid, signal.SIGKILL)
            _, errors = processes[0].communicate(timeout=200)
        finally:
            kill_ranks(processes)
            processes[1].communicate()
        assert processes[0].returncode not in (0, 130) and "Traceback" in errors
        (run,) = server.runs.values()
        assert [title.split(":")[0] for title in run.alerts] == ["the run failed"]
        assert run.exit_code == 1 and not run.preempting
    assert len(_alerts(folder)) == 1
