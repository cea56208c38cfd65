"""Training by real ranks over gloo: every ZeRO stage and split gives the same curve, and a
run that was killed resumes to the bit."""

import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests import small
from tests.ranks import ROOT, kill_ranks, run_ranks, start_ranks
from tests.wandb_server import WandbServer
from training.config import TrainConfig, resolved
from training.files import write_json

TRAIN = str(ROOT / "launch" / "train.py")
# Sums of fp32 in another order: 1e-5 relative is some ten times what is seen over 10 steps.
TOLERANCE = 1e-5
ONE_RANK: dict[str, dict[str, Any]] = {
    "training": {"micro_batch_sequences": 8},
    "parallel": {"zero_stage": 0},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """One prepared data folder for all runs of this file."""
    return small.prepared(tmp_path_factory.mktemp("training"))


def _config_file(base: TrainConfig, folder: Path, **changes: dict[str, Any]) -> Path:
    tree = resolved(base)
    tree["run"]["folder"] = str(folder)
    for name, section in changes.items():
        tree[name] |= section
    path = folder.with_suffix(".json")
    write_json(path, tree)
    return path


def _metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _losses(folder: Path) -> list[float]:
    return [line["train/loss"] for line in _metrics(folder)]


@pytest.fixture(scope="module")
def one_rank(data: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one") / "run"
    run_ranks(1, [TRAIN, str(_config_file(data, folder, **ONE_RANK))])
    return folder


def _weights(folder: Path, step: int = 10) -> dict[str, torch.Tensor]:
    path = folder / "checkpoints" / f"step_{step}" / "huggingface" / "model.safetensors"
    # A key's bias moves all of a query's logits alike and has no gradient but rounding, which
    # Adam scales up to whole steps: it is nobody's number.
    return {n: value for n, value in load_file(path).items() if not n.endswith("k_proj.bias")}


@pytest.mark.parametrize(
    ("num_ranks", "zero_stage", "micro_batch_sequences"),
    [(1, 0, 1), (1, 3, 4), (2, 0, 4), (2, 1, 2), (2, 2, 1), (2, 3, 2)],
)
def test_every_split_gives_the_same_curve(
    data: TrainConfig,
    one_rank: Path,
    tmp_path: Path,
    num_ranks: int,
    zero_stage: int,
    micro_batch_sequences: int,
) -> None:
    folder = tmp_path / "run"
    path = _config_file(
        data,
        folder,
        training={"micro_batch_sequences": micro_batch_sequences},
        parallel={"zero_stage": zero_stage},
    )
    run_ranks(num_ranks, [TRAIN, str(path)])
    found, lines = _metrics(folder), _metrics(one_rank)
    assert len(found) == len(lines) == 10
    for name in ("train/loss", "train/grad_norm"):
        expected = [line[name] for line in lines]
        assert [line[name] for line in found] == pytest.approx(expected, rel=TOLERANCE), name
    assert [line["train/tokens"] for line in found] == [line["train/tokens"] for line in lines]
    # It learns: a curve that stands still would be equal everywhere, too.
    assert found[-1]["train/loss"] < 0.9 * found[0]["train/loss"]
    # Whole weights come out of any sharding.
    torch.testing.assert_close(_weights(folder), _weights(one_rank), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("zero_stage", [0, 1])
def test_bf16_follows_fp32(
    data: TrainConfig, one_rank: Path, tmp_path: Path, zero_stage: int
) -> None:
    folder = tmp_path / "run"
    path = _config_file(
        data,
        folder,
        training={"precision": "bf16"},
        parallel={"zero_stage": zero_stage},
    )
    run_ranks(2, [TRAIN, str(path)])
    # bf16 keeps 8 bits: 2e-2 is what ten steps of rounding may add up to.
    expected = _losses(one_rank)
    assert _losses(folder) == pytest.approx(expected, rel=2e-2)


def _start_and_kill_after(path: Path, folder: Path, num_ranks: int, step: int) -> None:
    """Kill -9 all ranks as soon as the checkpoint of `step` is committed."""
    processes = start_ranks(num_ranks, [TRAIN, str(path)])
    try:
        deadline = time.monotonic() + 240
        while not (folder / "checkpoints" / f"step_{step}").exists():
            assert time.monotonic() < deadline, "no checkpoint in time"
            assert all(process.poll() is None for process in processes), [
                process.communicate() for process in processes
            ]
            time.sleep(0.01)
    finally:
        kill_ranks(processes)
        for process in processes:
            process.communicate()


@pytest.mark.parametrize(("num_ranks", "zero_stage"), [(1, 0), (2, 1), (2, 3)])
def test_killed_and_resumed_equals_uninterrupted_to_the_bit(
    data: TrainConfig, tmp_path: Path, num_ranks: int, zero_stage: int
) -> None:
    changes: dict[str, dict[str, Any]] = {
        "training": {"max_steps": 16},
        "checkpoint": {"every_steps": 4},
        "parallel": {"zero_stage": zero_stage},
        "model": {"dropout": 0.1},  # its randomness has to come back as well
    }
    uninterrupted, broken = tmp_path / "uninterrupted", tmp_path / "broken"
    run_ranks(num_ranks, [TRAIN, str(_config_file(data, uninterrupted, **changes))])
    path = _config_file(data, broken, **changes)
    for step in (4, 8):  # killed twice, three attempts
        _start_and_kill_after(path, broken, num_ranks, step)
    outputs = run_ranks(num_ranks, [TRAIN, str(path)])
    assert "resuming from" in outputs[0].stdout
    assert _losses(broken) == _losses(uninterrupted)
    assert [line["step"] for line in _metrics(broken)] == list(range(1, 17))
    expected = _weights(uninterrupted, 16)
    assert all(torch.equal(value, expected[name]) for name, value in _weights(broken, 16).items())


def test_a_damaged_checkpoint_is_passed_over_on_resume(
    data: TrainConfig, one_rank: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(one_rank, folder)
    path = _config_file(data, folder, **ONE_RANK)
    before = _losses(folder)
    state = folder / "checkpoints" / "step_10" / "train_state.json"
    state.write_text("{}")
    (folder / "manifest.json").unlink()
    outputs = run_ranks(1, [TRAIN, str(path)])
    assert "step_10 is skipped" in outputs[0].stdout
    assert "resuming from" in outputs[0].stdout and "step_5" in outputs[0].stdout
    assert _losses(folder) == before


def test_a_finished_run_is_skipped(one_rank: Path) -> None:
    path = one_rank.with_suffix(".json")
    assert "nothing to do" in run_ranks(1, [TRAIN, str(path)])[0].stdout


def test_a_terminal_has_a_bar_that_follows_the_steps(data: TrainConfig, tmp_path: Path) -> None:
    path = _config_file(data, tmp_path / "run", **ONE_RANK)
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm"}
    (output,) = run_ranks(1, [TRAIN, str(path)], extra=terminal)
    assert "0/10" in output.stderr and "10/10" in output.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_one_rank_saves_and_stops_all(
    data: TrainConfig, tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "run"
    path = _config_file(
        data, folder, training={"max_steps": 5000}, checkpoint={"every_steps": 4000}
    )
    processes = start_ranks(2, [TRAIN, str(path)])
    try:
        deadline = time.monotonic() + 240
        while not (folder / "metrics.jsonl").exists() or len(_metrics_so_far(folder)) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        processes[1].send_signal(number)
        outputs = [process.communicate(timeout=120) for process in processes]
    finally:
        kill_ranks(processes)
    assert [process.returncode for process in processes] == [130, 130], outputs
    assert "stopping at the next check" in outputs[1][1]
    steps = [int(path.name.split("_")[1]) for path in (folder / "checkpoints").glob("step_*")]
    assert len(steps) == 1 and steps[0] == len(_losses(folder))


def test_a_stopped_run_is_no_failed_one_in_wandb(data: TrainConfig, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    changes: dict[str, dict[str, Any]] = {"tracking": {"mode": "auto"}}
    changes |= {"training": {"max_steps": 5000}, "checkpoint": {"every_steps": 4000}}
    path = _config_file(data, folder, **changes)
    with WandbServer() as server:
        environment = {**server.environment(), "WANDB_MODE": "online"}
        processes = start_ranks(1, [TRAIN, str(path)], environment)
        try:
            deadline = time.monotonic() + 240
            while not (folder / "metrics.jsonl").exists() or len(_metrics_so_far(folder)) < 3:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            processes[0].send_signal(signal.SIGTERM)
            processes[0].communicate(timeout=120)
        finally:
            kill_ranks(processes)
        (run,) = server.runs.values()
        assert run.preempting and run.exit_code == 130
        steps = len(_losses(folder))
        changes["training"] = {"max_steps": steps + 2}
        again = _config_file(data, folder, **changes)
        run_ranks(1, [TRAIN, str(again)], extra=environment)
        (run,) = server.runs.values()
        assert run.exit_code == 0
        assert [line["_step"] for line in run.history] == list(range(1, steps + 3))


def _metrics_so_far(folder: Path) -> list[str]:
    return (folder / "metrics.jsonl").read_text().splitlines()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"micro_batch_sequences": 3}}, "multiple of"),
        ({"model": {"vocab_size": 300}}, "model.vocab_size = 300"),
        ({"data": {"folder": "nowhere/at/all"}}, "launch/prepare.py"),
        ({"model": {"initial_weights": "no/such/folder"}}, "no/such/folder"),
        ({"training": {"precision": "fp16"}}, "needs a GPU"),
        ({"training": {"precision": "bf16", "compile": True}}, "set training.precision = 'fp32'"),
    ],
)
def test_what_does_not_fit_is_one_message(
    data: TrainConfig, tmp_path: Path, changes: dict[str, dict[str, Any]], message: str
) -> None:
    path = _config_file(data, tmp_path / "run", **changes)
    output = run_ranks(1, [TRAIN, str(path)], check=False)[0]
    assert output.returncode == 2, output.stderr
    assert message in output.stderr
    assert "Traceback" not in output.stderr


def test_checkpoints_of_another_config_are_not_trained_on(
    data: TrainConfig, one_rank: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(one_rank, folder)
    changed = _config_file(
        data, folder, optimizer={"learning_rate": 2e-2}, training={"max_steps": 20}
    )
    output = run_ranks(1, [TRAIN, str(changed)], check=False)[0]
    assert output.returncode == 2
    assert "optimizer.learning_rate was 0.01, is 0.02" in output.stderr
    longer = _config_file(data, folder, training={"max_steps": 20})
    run_ranks(1, [TRAIN, str(longer)])
    assert len(_losses(folder)) == 20
