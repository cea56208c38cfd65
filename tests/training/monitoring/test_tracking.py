# pyright: reportPrivateUsage=false
"""What a tracker records, read back from wandb's offline log and from metrics.jsonl."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.ranks import ROOT
from tests.training.monitoring.conftest import CONFIG, Start
from tests.training.monitoring.pieces import (
    gone,
    history,
    log_steps,
    of_kind,
    offline_messages,
)
from tests.wandb_server import KEY
from training.monitoring import tracking, wandb_run
from training.monitoring.metrics_file import read_lines


def test_an_offline_run_reads_back(
    start: Start,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "run"
    tracker = start()
    piece = Path(tracker.link)
    log_steps(tracker, 1, 2)
    tracker.log({"eval/demo/pass_at_1": 0.25}, step=2, tokens=200)
    rows = [["How many?", "n = 1", "right", 0.5], ["How much?", "n = 2", "failed", None]]
    columns = ["question", "program", "verdict", "score"]
    tracker.table("eval/demo/samples", columns, rows, step=2, tokens=200)
    tracker.log({"train/loss": float("nan")}, step=3, tokens=300)
    tracker.summary({"steps": 3})
    tracker.alert("loss is not finite", "at step 3")
    tracker.mark_preempting()
    tracker.finish(exit_code=75)
    tracker.finish()

    (message,) = offline_messages(capsys, caplog)
    assert "no WANDB_API_KEY" in message and "wandb sync" in message
    assert piece.parent == folder / "wandb"
    first, second, third = history(piece)
    assert first == {"_step": 1, "train/loss": 1.0, "train/tokens": 100}
    table = second.pop("eval/demo/samples/path")
    assert {"train/loss": 0.5, "eval/demo/pass_at_1": 0.25}.items() <= second.items()
    stored = json.loads((piece / "files" / table).read_text())
    assert (stored["columns"], stored["data"]) == (columns, rows)
    assert third["train/tokens"] == 300

    run = of_kind(piece, "run")[0]
    assert (run.run_id, run.display_name) == (tracker.run_id, "small")
    assert (run.run_group, run.job_type, list(run.tags)) == ("demo", "generator", ["a"])
    config = {update.key: json.loads(update.value_json) for update in run.config.update}
    assert CONFIG.items() <= config.items()
    assert run.git.commit and config["code"]["git"].startswith(run.git.commit)
    metric = next(metric for metric in of_kind(piece, "metric") if metric.glob_name)
    assert (metric.glob_name, metric.step_metric) == ("*", "train/tokens")
    assert [alert.title for alert in of_kind(piece, "alert")] == ["loss is not finite"]
    assert of_kind(piece, "preempting")
    assert of_kind(piece, "exit")[0].exit_code == 75

    assert list(read_lines(folder)) == [
        {"step": 1, "train/loss": 1.0, "train/tokens": 100},
        {"step": 2, "train/loss": 0.5, "train/tokens": 200},
        {"step": 2, "eval/demo/pass_at_1": 0.25, "train/tokens": 200},
        {"step": 3, "train/loss": "nan", "train/tokens": 300},
    ]
    saved = (folder / "tables/eval/demo/samples/step_2.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in saved] == [
        dict(zip(columns, row, strict=True)) for row in rows
    ]
    assert json.loads((folder / "summary.json").read_text()) == {"steps": 3}
    assert gone(os.getpid())


def test_a_second_offline_attempt_is_the_same_run_in_a_piece_of_its_own(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    with start() as first:
        log_steps(first, 1, 2, 3)
    with start(resume_step=2) as second:
        log_steps(second, 3, 4)
    assert second.run_id == first.run_id
    pieces = sorted((tmp_path / "run" / "wandb").glob("offline-run-*"))
    assert len(pieces) == 2
    assert {of_kind(piece, "run")[0].run_id for piece in pieces} == {first.run_id}
    steps = sorted([line["_step"] for line in history(piece)] for piece in pieces)
    assert steps == [[1, 2, 3], [3, 4]]
    assert [line["step"] for line in read_lines(tmp_path / "run")] == [1, 2, 3, 4]


def test_without_wandb_the_record_is_the_same(tmp_path: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        from training.config import TrackingConfig
        from training.monitoring.tracking import Tracker
        arguments = dict(name="n", job_type="generator", resolved={})
        quiet = Tracker.start(TrackingConfig(), folder=Path(sys.argv[1]) / "other", enabled=False,
                              **arguments)
        with Tracker.start(TrackingConfig(mode="disabled"), folder=Path(sys.argv[1]) / "run",
                           **arguments) as tracker:
            for one in (quiet, tracker):
                one.log({"train/loss": 1.0}, step=1, tokens=100)
                one.table("samples", ["q"], [["How many?"]], step=1, tokens=100)
                one.summary({"a": 1})
                one.mark_preempting()
                one.sync()
            assert tracker.link == str(Path(sys.argv[1]) / "run")
        quiet.alert("title", "text")
        quiet.finish()
        assert "wandb" not in sys.modules
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(read_lines(tmp_path / "run")) == [
        {"step": 1, "train/loss": 1.0, "train/tokens": 100}
    ]
    assert (tmp_path / "run" / "tables" / "samples" / "step_1.jsonl").is_file()
    assert not (tmp_path / "other").exists()


def test_a_job_that_shares_a_run_keeps_its_alerts_alone(start: Start, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), start(alerts_only=True) as tracker:
        tracker.log({"train/loss": 1.0}, step=1, tokens=100)
        tracker.summary({"a": 1})
        raise OSError("the disk is full")
    (path,) = (tmp_path / "run").iterdir()
    alert = json.loads(path.read_text())
    assert path.name == "alerts.jsonl"
    assert (alert["title"], alert["text"]) == ("the run failed: OSError", "the disk is full")


@pytest.mark.parametrize(
    ("mode", "environment", "expected"),
    [
        ("auto", {}, "auto"),
        ("auto", {"WANDB_MODE": "offline"}, "offline"),
        ("auto", {"WANDB_MODE": "online"}, "auto"),
        ("online", {"WANDB_MODE": "offline"}, "offline"),
        ("online", {"WANDB_MODE": "disabled"}, "disabled"),
        ("disabled", {"WANDB_MODE": "online"}, "disabled"),
        ("offline", {"WANDB_DISABLED": "true"}, "disabled"),
    ],
)
def test_the_quieter_of_config_and_environment_counts(
    mode: tracking.Mode, environment: dict[str, str], expected: str
) -> None:
    assert tracking._quieter(mode, environment) == expected


def test_a_login_is_a_key_or_a_netrc_entry_of_this_server(tmp_path: Path) -> None:
    path = tmp_path / "netrc"
    environment = {"NETRC": str(path)}
    assert not wandb_run.has_login("http://127.0.0.1:8080", environment)
    path.write_text(f"machine 127.0.0.1:8080 login user password {KEY}\n")
    assert wandb_run.has_login("http://127.0.0.1:8080", environment)
    assert not wandb_run.has_login("http://127.0.0.1:9090", environment)
    path.write_text("machine what is this\n")
    assert not wandb_run.has_login("http://127.0.0.1:8080", environment)
    assert wandb_run.has_login("http://127.0.0.1:9090", {**environment, "WANDB_API_KEY": KEY})
