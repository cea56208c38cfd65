"""Real runs of wandb against a server on loopback: refusals, outages, dying processes."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.ranks import ROOT
from tests.training.monitoring.conftest import CONFIG, Start
from tests.training.monitoring.pieces import (
    assert_key_is_nowhere,
    gone,
    history,
    log_steps,
    offline_messages,
    wandb_processes,
)
from tests.wandb_server import KEY, WandbServer
from training.config import TrackingConfig
from training.lifecycle.signals import Stopped
from training.monitoring import wandb_run


def test_online_lives_are_one_run_and_refusals_lose_nothing(
    start: Start, server: WandbServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with start(TrackingConfig()) as tracker:
        assert tracker.link == f"{server.url}/tester/tinygsm/runs/{tracker.run_id}"
        server.fail_next = 1
        log_steps(tracker, 1, 2)
        tracker.table("samples", ["question"], [["How many?"]], step=2, tokens=200)
        log_steps(tracker, 3)
    run = server.runs[tracker.run_id]
    assert server.num_refused == 1
    assert [line["train/loss"] for line in run.history] == [1.0, 0.5, 1.0 / 3.0]
    assert [line["train/tokens"] for line in run.history] == [100, 200, 300]
    assert (run.project, run.name) == ("tinygsm", "small")
    assert run.group == run.name  # none is set
    assert (run.job_type, run.exit_code) == ("generator", 0)
    assert CONFIG.items() <= run.settings().items() and run.commit
    assert any(metric.get("2") == "*" and metric["5"] == 1 for metric in run.metric_definitions())
    table = run.uploads[run.history[1]["samples"]["path"]]
    assert json.loads(table)["data"] == [["How many?"]]

    # The second attempt comes from a checkpoint that lies before what the server knows.
    with start(TrackingConfig(), resume_step=2, run_id=tracker.run_id) as again:
        log_steps(again, 3, 4)
        again.mark_preempting()
        again.finish(exit_code=75)
    assert list(server.runs) == [tracker.run_id]
    assert [line["_step"] for line in run.history] == [1, 2, 3, 4]
    assert (run.preempting, run.exit_code) == (True, 75)
    assert capsys.readouterr() == ("", "")
    assert server.authorizations and gone(os.getpid())
    assert_key_is_nowhere(tmp_path / "run")


def test_what_an_attempt_adds_to_the_step_it_resumes_from_arrives(
    start: Start, server: WandbServer
) -> None:
    with start() as tracker:
        log_steps(tracker, 1, 2)
    # The evaluation at step 2 was cut short; W&B refuses more for a step that it has closed.
    with start(resume_step=2) as again:
        again.table("samples", ["question"], [["How many?"]], step=2, tokens=200)
        again.log({"eval/demo/pass_at_1": 0.25}, step=2, tokens=200)
        log_steps(again, 3)
    history = server.runs[again.run_id].history
    assert [line["train/loss"] for line in history] == [1.0, 0.5, 1.0 / 3.0]
    assert history[-1]["eval/demo/pass_at_1"] == 0.25 and "samples" in history[-1]


@pytest.mark.parametrize(
    ("error", "alerts", "exit_code"),
    [(RuntimeError("no"), ["the run failed: RuntimeError"], 1), (Stopped(), [], 130)],
)
def test_how_a_run_ends_is_reported(
    start: Start,
    server: WandbServer,
    tmp_path: Path,
    error: Exception,
    alerts: list[str],
    exit_code: int,
) -> None:
    with pytest.raises(type(error)), start() as tracker:
        log_steps(tracker, 1)
        raise error
    run = server.runs[tracker.run_id]
    assert (run.alerts, run.exit_code) == (alerts, exit_code)
    assert run.preempting == isinstance(error, Stopped)
    path = tmp_path / "run" / "alerts.jsonl"
    alerted = [json.loads(line) for line in path.read_text().splitlines()] if alerts else []
    assert [(entry["title"], entry["text"]) for entry in alerted] == [
        (title, "no") for title in alerts
    ]


def test_a_killed_trainer_leaves_no_process_and_its_numbers_arrive_later(
    start: Start, server: WandbServer, tmp_path: Path
) -> None:
    script = """
        import os, signal, sys
        from pathlib import Path
        from training.config import TrackingConfig
        from training.monitoring.tracking import Tracker
        tracker = Tracker.start(TrackingConfig(), folder=Path(sys.argv[1]), name="small",
                                job_type="generator", resolved={})
        for step in (1, 2, 3):
            tracker.log({"train/loss": 1.0 / step}, step=step, tokens=step * 100)
        print("logged", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "run")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    output, _ = killed.communicate(timeout=120)
    assert output == "logged\n" and killed.returncode == -signal.SIGKILL
    assert gone(killed.pid)
    with start(resume_step=3) as tracker:
        log_steps(tracker, 4)
    assert list(server.runs) == [tracker.run_id]
    run = server.runs[tracker.run_id]
    assert [line["_step"] for line in run.history] == [1, 2, 3, 4]
    assert [line["train/tokens"] for line in run.history] == [100, 200, 300, 400]
    assert_key_is_nowhere(tmp_path / "run")


def test_an_outage_stops_nothing_and_its_numbers_arrive_later(
    start: Start, server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_run, "_FINISH_SECONDS", 1.0)
    with start() as tracker:
        log_steps(tracker, 1)
        server.stop()
        log_steps(tracker, 2, 3)
    assert gone(os.getpid())
    server.start()
    with start(resume_step=3) as tracker:
        log_steps(tracker, 4)
    run = server.runs[tracker.run_id]
    assert [line["_step"] for line in run.history] == [1, 2, 3, 4]
    assert [line["train/loss"] for line in run.history] == [1.0, 0.5, 1.0 / 3.0, 0.25]


def test_no_server_at_the_start_means_offline_said_once(
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(wandb_run, "_INIT_SECONDS", 2.0)
    with start() as tracker:
        piece = Path(tracker.link)
        log_steps(tracker, 1)
    assert [line["_step"] for line in history(piece)] == [1]
    (message,) = offline_messages(capsys, caplog)
    assert "127.0.0.1" in message and KEY not in message
    assert gone(os.getpid())
    assert_key_is_nowhere(piece.parent)


def test_the_run_continues_when_its_wandb_process_is_terminated(
    start: Start,
    server: WandbServer,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with start() as tracker:
        log_steps(tracker, 1, 2)
        (process,) = wandb_processes(os.getpid())
        os.kill(process, signal.SIGTERM)
        assert gone(os.getpid())
        log_steps(tracker, 3, 4)
        tracker.mark_preempting()
    run = server.runs[tracker.run_id]
    assert [line["_step"] for line in run.history] == [1, 2, 3, 4]
    assert run.preempting and run.exit_code == 0
    assert capsys.readouterr().err == "" and "tracking:" not in caplog.text
    assert gone(os.getpid())


def test_what_a_dying_wandb_process_had_not_sent_is_sent_again(
    start: Start,
    server: WandbServer,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with start() as tracker:
        log_steps(tracker, 1)
        (process,) = wandb_processes(os.getpid())
        os.kill(process, signal.SIGSTOP)
        log_steps(tracker, 2)
        tracker.summary({"best": 0.5})
        tracker.mark_preempting()
        os.kill(process, signal.SIGKILL)
        assert gone(os.getpid())
    run = server.runs[tracker.run_id]
    assert [line["_step"] for line in run.history] == [1, 2]
    assert run.preempting and run.exit_code == 0
    assert run.summary["best"] == 0.5
    assert capsys.readouterr().err == "" and "tracking:" not in caplog.text
