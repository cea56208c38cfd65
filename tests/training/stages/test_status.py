"""What status prints for the folders that runs leave."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ranks import ROOT
from training.lifecycle import attempts
from training.stages.status import describe, duration

NOW = 2_000_000_000.0


def line(step: int, **more: float) -> dict[str, Any]:
    values = {
        "train/loss": 2.5,
        "train/tokens": 1000 * step,
        "train/tokens_per_second": 5000.0,
        "time/step": 2.0,
        "goodput/productive_fraction": 0.87,
    }
    return {"step": step, **values, **more}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    config = {"run": {}, "training": {"max_steps": 100}, "tracking": {"project": "tinygsm"}}
    (tmp_path / "run.json").write_text(json.dumps(config))
    lines = [json.dumps(line(step)) for step in range(1, 41)]
    lines.insert(20, json.dumps({"step": 20, "eval/gsm8k/pass_at_1": 0.25}))
    text = "\n".join(lines) + '\n{"step": 41, "train/lo'
    (tmp_path / "metrics.jsonl").write_text(text)
    os.utime(tmp_path / "metrics.jsonl", (NOW - 30, NOW - 30))
    (tmp_path / "checkpoints" / "step_20").mkdir(parents=True)
    return tmp_path


def test_a_running_training_is_reported_in_full(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOW - 500)
    monkeypatch.setenv("SLURM_JOB_NODELIST", "gpu[1-4]")
    attempts.record(run, verb="train", job="12", attempt=0)
    attempts.record(run, verb="train", job="12", attempt=1)
    (run / "wandb_run_id").write_text("abc123\n")
    (run / "wandb" / "offline-run-1-abc123").mkdir(parents=True)
    said = list(describe(run, now=NOW))
    assert said[0] == "train: unfinished, last activity 30 s ago"
    assert said[1] == "step 40 of 100, saved at 20; 40,000 tokens, 5,000 a second"
    assert said[2] == "loss 2.5000; 2 min left at this rate; goodput 87 %"
    assert said[3] == "evaluation at step 20: gsm8k pass_at_1 0.250"
    assert said[4] == "job 12, attempt 1 on gpu[1-4], from step 20; jobs: 1, restarts: 1"
    assert said[5] == f"logs: {run}/logs/job-12/attempt-1"
    assert said[6].startswith("W&B: run abc123 is offline; upload: wandb sync")


def test_the_last_alert_is_reported(run: Path) -> None:
    alerts = [
        {"time": NOW - ago, "title": "the run hangs", "text": f"of\n{ago}"} for ago in (600, 300)
    ]
    text = "".join(json.dumps(alert) + "\n" for alert in alerts)
    (run / "alerts.jsonl").write_text(text + '{"time": 1')
    said = [line for line in describe(run, now=NOW) if line.startswith("alert")]
    assert said == ["alert 5 min ago: the run hangs: of 300"]


def test_silence_the_page_and_the_end_are_reported(run: Path) -> None:
    assert "no activity for 2 h 0 min" in next(describe(run, now=NOW + 7200))
    (run / "wandb_link").write_text("https://wandb.ai/us/tinygsm/runs/abc123\n")
    assert list(describe(run, now=NOW))[-1] == "W&B: https://wandb.ai/us/tinygsm/runs/abc123"
    config = json.loads((run / "run.json").read_text())
    (run / "manifest.json").write_text(json.dumps({"config": config, "facts": {}}))
    assert next(describe(run, now=NOW)) == "train: finished"


def test_a_finished_run_that_is_extended_is_not_finished(run: Path) -> None:
    config = json.loads((run / "run.json").read_text())
    (run / "manifest.json").write_text(json.dumps({"config": config, "facts": {}}))
    config["training"]["max_steps"] = 200
    (run / "run.json").write_text(json.dumps(config))
    said = list(describe(run, now=NOW))
    assert said[0] == "train: unfinished, last activity 30 s ago"
    assert said[1].startswith("step 40 of 200, saved at 20")


def test_a_recipe_lists_every_stage(run: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "config.json").write_text("{}")
    (folder / "jobs.json").write_text('{"data_generator": "3", "generator": "4"}')
    run.rename(folder / "generator")
    said = list(describe(folder, now=NOW))
    assert said[:3] == ["data_generator (job 3)", "  not started", "generator (job 4)"]
    assert said[3] == "  train: unfinished, last activity 30 s ago"
    assert said[-1] == "report: not there yet"


def test_what_is_no_run_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="it is no run folder"):
        list(describe(tmp_path))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        list(describe(tmp_path / "nowhere"))


def test_durations_read_well() -> None:
    seconds = (59, 300, 12_000, 200_000)
    assert [duration(s) for s in seconds] == ["59 s", "5 min", "3 h 20 min", "2 d 7 h"]


def test_preparing_is_reported_by_its_parts(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    parts = attempts.parts_folder(folder)
    parts.mkdir()
    (parts / "part-000000.parquet").touch()
    os.utime(parts / "part-000000.parquet", (NOW - 30, NOW - 30))
    assert list(describe(folder, now=NOW)) == [
        "prepare: unfinished, last activity 30 s ago",
        "1 parts of rows are made",
    ]


def test_a_reader_that_has_had_enough_is_no_error(run: Path) -> None:
    command = f"{sys.executable} launch/status.py {run} {run} | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == f"== {run}\n" and done.stderr == "" and done.returncode in (0, 141)
