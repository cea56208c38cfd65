"""Real runs of wandb, offline read back from its log, online against a server on loopback."""

import json
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.ranks import ROOT
from tests.wandb_server import KEY, WandbServer
from training import tracking, wandb_run
from training.config import TrackingConfig
from training.metrics_file import read_lines
from training.signals import Stopped
from training.tracking import Tracker

Json = dict[str, Any]
Start = Callable[..., Tracker]

CONFIG: Json = {"model": {"num_layers": 2}, "run": {"name": "small"}}


@pytest.fixture(autouse=True)
def no_wandb_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the person's own: no key, no netrc, no settings file, no error reports."""
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / ".netrc"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")


@pytest.fixture
def start(tmp_path: Path) -> Start:
    def start(config: TrackingConfig | None = None, **changes: Any) -> Tracker:
        arguments: Json = {"name": "small", "group": "demo", "job_type": "generator"}
        arguments |= {"folder": tmp_path / "run", "resolved": CONFIG, **changes}
        return Tracker.start(config or TrackingConfig(tags=("a",)), **arguments)

    return start


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with WandbServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


def log_steps(tracker: Tracker, *steps: int) -> None:
    for step in steps:
        tracker.log({"train/loss": 1.0 / step}, step=step, tokens=step * 100)


def records(piece: Path) -> Iterator[Any]:
    """The records of an offline piece: protocol buffers in LevelDB's log format."""
    messages: Any = import_module("wandb.proto.wandb_internal_pb2")
    (path,) = piece.glob("run-*.wandb")
    content = path.read_bytes()
    at, whole = 7, b""  # wandb's own header comes first
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:  # the rest of a block that no header fits into
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", content[at : at + 7])
        part = content[at + 7 : at + 7 + size]
        at += 7 + size
        whole = part if kind in (1, 2) else whole + part  # full or first; middle, last
        if kind in (1, 4):
            record = messages.Record()
            record.ParseFromString(whole)
            yield record


def of_kind(piece: Path, kind: str) -> list[Any]:
    found = [record for record in records(piece) if record.WhichOneof("record_type") == kind]
    return [getattr(record, kind) for record in found]


def history(piece: Path) -> list[Json]:
    lines: list[Json] = []
    for entry in of_kind(piece, "history"):
        line: Json = {}
        for item in entry.item:
            line["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
        lines.append({name: line[name] for name in line if name not in ("_timestamp", "_runtime")})
    return lines


def wandb_processes(owner: int) -> list[int]:
    """Live processes of wandb that serve the process `owner`."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"wandb-core" in command[0] and str(owner).encode() in command:
            found.append(int(folder.name))
    return found


def gone(owner: int, *, within_seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + within_seconds
    while wandb_processes(owner) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not wandb_processes(owner)


def offline_messages(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [line for line in captured.err.splitlines() if "offline" in line]


def assert_key_is_nowhere(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


def test_an_offline_run_reads_back(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
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

    (message,) = offline_messages(capsys)
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


def test_a_second_offline_life_is_the_same_run_in_a_piece_of_its_own(
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
    assert (run.project, run.name, run.group) == ("tinygsm", "small", "demo")
    assert (run.job_type, run.exit_code) == ("generator", 0)
    assert CONFIG.items() <= run.settings().items() and run.commit
    assert any(metric.get("2") == "*" and metric["5"] == 1 for metric in run.metric_definitions())
    table = run.uploads[run.history[1]["samples"]["path"]]
    assert json.loads(table)["data"] == [["How many?"]]

    # The second life comes from a checkpoint that lies before what the server knows.
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


def test_what_a_life_adds_to_the_step_it_goes_on_from_arrives(
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
def test_how_a_run_ends_is_told(
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
    told = [json.loads(line) for line in path.read_text().splitlines()] if alerts else []
    assert [(entry["title"], entry["text"]) for entry in told] == [
        (title, "no") for title in alerts
    ]


def test_a_killed_trainer_leaves_no_process_and_its_numbers_arrive_later(
    start: Start, server: WandbServer, tmp_path: Path
) -> None:
    script = """
        import os, signal, sys
        from pathlib import Path
        from training.config import TrackingConfig
        from training.tracking import Tracker
        tracker = Tracker.start(TrackingConfig(), folder=Path(sys.argv[1]), name="small",
                                group="demo", job_type="generator", resolved={})
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
    start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(wandb_run, "_INIT_SECONDS", 2.0)
    with start() as tracker:
        piece = Path(tracker.link)
        log_steps(tracker, 1)
    assert [line["_step"] for line in history(piece)] == [1]
    (message,) = offline_messages(capsys)
    assert "127.0.0.1" in message and KEY not in message
    assert gone(os.getpid())
    assert_key_is_nowhere(piece.parent)


def test_the_run_goes_on_when_its_wandb_process_is_terminated(
    start: Start, server: WandbServer, capsys: pytest.CaptureFixture[str]
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
    assert capsys.readouterr().err == ""
    assert gone(os.getpid())


def test_what_a_dying_wandb_process_had_not_sent_is_told_again(
    start: Start, server: WandbServer, capsys: pytest.CaptureFixture[str]
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
    assert capsys.readouterr().err == ""


def test_without_wandb_the_record_is_the_same(tmp_path: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        from training.config import TrackingConfig
        from training.tracking import Tracker
        arguments = dict(name="n", group="g", job_type="generator", resolved={})
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
