"""What people are alerted to: a hang, a loss that is not finite, a rank that died."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import small
from tests.ranks import ROOT, kill_ranks, run_ranks, start_ranks
from tests.training.stages import folders
from tests.wandb_server import WandbServer
from training.config import TrainConfig, resolved
from training.files import write_json

pytestmark = pytest.mark.slow

TRAIN = str(ROOT / "launch" / "train.py")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    return small.prepared(
        tmp_path_factory.mktemp("alerts"),
        training={"max_steps": 5000},
        checkpoint={"every_steps": 5000},
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


def _num_steps(folder: Path) -> int:
    return len((folder / "metrics.jsonl").read_text().splitlines())


def _alert_texts(folder: Path) -> list[str]:
    return [alert["text"] for alert in _alerts(folder)]


def _silence(rank: int, minutes: float) -> str:
    silence = f"no step, batch or checkpoint file for {minutes} minutes on rank {rank}"
    return f"{silence}; its log holds the stacks of its threads"


def _until(condition: Callable[[], bool], missing: str) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline, missing
        time.sleep(0.05)


def _wait_for(path: Path) -> None:
    _until(lambda: path.is_file() and path.stat().st_size > 0, f"no {path.name}")


def test_a_hang_is_reported_once_with_the_stacks_and_the_run_continues(
    data: TrainConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    path = _config_file(data, folder, run={"folder": str(folder), "watchdog_minutes": 0.05})
    processes = start_ranks(2, [TRAIN, path])
    try:
        _wait_for(folder / "metrics.jsonl")
        # On a busy machine the start alone may have been such a silence.
        before = _alert_texts(folder).count(_silence(0, 0.05))
        processes[1].send_signal(signal.SIGSTOP)
        _until(lambda: _alert_texts(folder).count(_silence(0, 0.05)) > before, "no alert")
        time.sleep(6)  # two more times what is allowed: it is reported once
        assert _alert_texts(folder).count(_silence(0, 0.05)) == before + 1
        processes[1].send_signal(signal.SIGCONT)
        num_steps = _num_steps(folder)
        _until(lambda: _num_steps(folder) > num_steps + 3, "it does not continue")
        processes[0].send_signal(signal.SIGTERM)
        outputs = [process.communicate(timeout=100) for process in processes]
    finally:
        kill_ranks(processes)
    assert [process.returncode for process in processes] == [130, 130], outputs
    errors = outputs[0][1]
    assert "for 0.05 minutes on rank 0; the stacks of its threads" in errors
    assert 'trainer.py", line' in errors and "watchdog.py" in errors


def test_a_rank_that_hangs_while_sampling_is_reported_by_the_first(tmp_path: Path) -> None:
    folder = tmp_path / "candidates"
    folders.write_inputs(tmp_path)
    tree = folders.sample_tree(tmp_path, folder, questions_per_part=1)
    tree["run"]["watchdog_minutes"] = 0.2
    script = "tests/distributed/standing_still.py"
    done = run_ranks(2, [script, folders.written(tmp_path, tree)])
    assert _alert_texts(folder).count(_silence(1, 0.2)) == 1
    assert "for 0.2 minutes on rank 1; the stacks of its threads" in done[1].stderr
    assert "in _stand_still" in done[1].stderr


def test_a_loss_that_is_not_finite_ends_the_run_and_is_alerted_to(
    data: TrainConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    wild = {"learning_rate": 1e18, "max_grad_norm": 0.0, "warmup_steps": 0}
    with WandbServer() as server:
        often = {"every_steps": 1}
        path = _config_file(data, folder, optimizer=wild, checkpoint=often)
        outputs = run_ranks(2, [TRAIN, path], check=False, extra=server.environment())
        assert all(output.returncode for output in outputs)
        assert "lower optimizer.learning_rate" in outputs[0].stderr
        assert os.listdir(folder / "checkpoints")
        (run,) = server.runs.values()
        assert run.alerts == ["the run failed: TrainingDiverged"] and run.exit_code == 1
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
