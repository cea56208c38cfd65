"""Training that ends in the middle of an evaluation: the next attempt makes up for it."""

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

pytestmark = pytest.mark.slow

TRAIN = str(ROOT / "launch" / "train.py")
STEPS, EVERY = 6, 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    problems = {"kind": "problems", "num_questions": 8}
    return small.prepared(
        tmp_path_factory.mktemp("stopping"),
        # A thousand small batches: seconds, in which there is nothing but the evaluation.
        evaluation={
            "every_steps": EVERY,
            "benchmarks": [{"name": "one", **problems}, {"name": "two", **problems, "seed": 7}],
            "num_candidates": 10,
            "max_new_tokens": 60,
            "micro_batch_candidates": 2,
        },
        training={"max_steps": STEPS},
        tracking={"mode": "auto"},
    )


def _config_file(data: TrainConfig, folder: Path, *, every_steps: int) -> str:
    tree = resolved(data)
    tree["run"]["folder"] = str(folder)
    tree["checkpoint"]["every_steps"] = every_steps
    path = folder.with_suffix(".json")
    write_json(path, tree)
    return str(path)


def _lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    text = path.read_text() if path.is_file() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _results(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What does not depend on the clock."""
    return [
        {
            n: v
            for n, v in line.items()
            if n in ("step", "train/tokens", "train/loss") or "eval/" in n
        }
        for line in lines
    ]


def _programs(folder: Path) -> dict[str, str]:
    """A model this small is never right: what it wrote tells evaluations apart."""
    tables = folder / "tables"
    return {str(path.relative_to(tables)): path.read_text() for path in tables.rglob("*.jsonl")}


@pytest.fixture(scope="module")
def uninterrupted(data: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    run_ranks(2, [TRAIN, _config_file(data, folder, every_steps=EVERY)])
    return folder


@pytest.mark.parametrize(
    ("number", "step", "every_steps"),
    [
        (signal.SIGTERM, 3, 100),  # there is no checkpoint of the step yet
        (signal.SIGUSR1, 3, EVERY),  # it has just been saved
        (signal.SIGINT, STEPS, EVERY),  # nothing is left but the evaluation
        (signal.SIGKILL, 3, EVERY),
    ],
)
def test_an_evaluation_that_was_cut_short_is_made_up_for(
    data: TrainConfig,
    uninterrupted: Path,
    tmp_path: Path,
    number: signal.Signals,
    step: int,
    every_steps: int,
) -> None:
    folder = tmp_path / "run"
    path = _config_file(data, folder, every_steps=every_steps)
    checkpoint = folder / "checkpoints" / f"step_{step}"
    with WandbServer() as server:
        processes = start_ranks(2, [TRAIN, path], server.environment())
        try:
            deadline = time.monotonic() + 240
            while not any(line["step"] == step for line in _lines(folder)) or (
                every_steps == EVERY and not (checkpoint / "train_state.json").is_file()
            ):
                assert time.monotonic() < deadline
                assert all(process.poll() is None for process in processes)
                time.sleep(0.02)
            before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
            if number == signal.SIGKILL:
                kill_ranks(processes)
            else:
                os.killpg(processes[1].pid, number)
            outputs = [process.communicate(timeout=120) for process in processes]
        finally:
            kill_ranks(processes)
        expected = _results(_lines(uninterrupted))
        num_evaluations = step // EVERY
        assert _results(_lines(folder)) == expected[: step + num_evaluations - 1], outputs
        (run,) = server.runs.values()
        if number != signal.SIGKILL:
            assert [process.returncode for process in processes] == [130, 130], outputs
            assert run.preempting and run.exit_code == 130
        if before:
            assert checkpoint.stat().st_mtime_ns == before, "saved twice"
        assert checkpoint.is_dir()

        again = run_ranks(2, [TRAIN, path], extra=server.environment())
        assert f"step_{step}" in again[0].stdout
        assert _results(_lines(folder)) == expected
        assert len(_programs(folder)) == 2 * STEPS // EVERY
        assert _programs(folder) == _programs(uninterrupted)
        assert run.exit_code == 0
        sent = [row["eval/two/pass_at_k"] for row in run.history if "eval/two/pass_at_k" in row]
        assert sent == [line["eval/two/pass_at_k"] for line in expected if "train/loss" not in line]
        assert [row["train/loss"] for row in run.history if "train/loss" in row] == [
            line["train/loss"] for line in expected if "train/loss" in line
        ]
    # And there is nothing left to do.
    assert "nothing to do" in run_ranks(2, [TRAIN, path])[0].stdout
