"""A signal to one rank of sampling or evaluating: all ranks keep whole parts and leave."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.ranks import kill_ranks, run_ranks, start_ranks
from tests.training.evaluation import models
from tests.training.stages import folders
from tests.wandb_server import WandbServer
from training import manifest
from training.data import candidates

NUM_PARTS, PER_PART = 4, 20


def _tree(verb: str, inputs: Path, folder: Path) -> dict[str, Any]:
    """Two parts for each of two ranks; a part takes many batches, some seconds in all."""
    many: dict[str, Any] = {"name": "many", "kind": "gsm8k", "path": str(inputs / "many")}
    slow = {
        "questions_per_part": PER_PART,
        "num_candidates": 12,
        "max_new_tokens": 60,
        "micro_batch_candidates": 4,
    }
    if verb == "sample":
        checkpoints = [str(inputs / "step_1")]
        asked = {**many, "split": "train"}
        tree = folders.sample_tree(inputs, folder, questions=asked, checkpoints=checkpoints, **slow)
    else:
        tree = folders.evaluate_tree(inputs, folder, benchmarks=[many], **slow)
    return tree | {"tracking": {"mode": "auto"}}


def _programs(folder: Path) -> list[tuple[str, int, str, str]]:
    paths = sorted(folder.rglob("part-*.parquet"))
    return [
        (c.question_id, c.index, c.program, c.verdict)
        for path in paths
        for c in candidates.read(path)
    ]


@pytest.fixture(scope="module")
def inputs(inputs: Path) -> Path:
    """With more questions beside the usual ones."""
    models.write_gsm8k(inputs / "many", NUM_PARTS * PER_PART)
    return inputs


@pytest.mark.parametrize(
    ("verb", "number"),
    [("sample", signal.SIGUSR1), ("sample", signal.SIGTERM), ("evaluate", signal.SIGTERM)],
)
def test_a_signal_to_one_rank_stops_all_between_two_batches(
    inputs: Path, tmp_path: Path, verb: str, number: signal.Signals
) -> None:
    folder = tmp_path / "run"
    command = [f"launch/{verb}.py", folders.written(tmp_path, _tree(verb, inputs, folder))]
    parts = folder if verb == "sample" else folder / "parts" / "many"
    with WandbServer() as server:
        environment = {**server.environment(), "TINYGSM_STOPPED_FILE": str(tmp_path / "stopped")}
        processes = start_ranks(2, command, environment)
        try:
            deadline = time.monotonic() + 200
            while not candidates.part_paths(parts):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            # To the whole group, as Slurm sends it: the jailed processes get it too.
            os.killpg(processes[1].pid, number)
            outputs = [process.communicate(timeout=100) for process in processes]
        finally:
            kill_ranks(processes)
        assert [process.returncode for process in processes] == [130, 130], outputs
        (run,) = server.runs.values()
        assert run.preempting and run.exit_code == 130
        assert not run.alerts
    assert all("Traceback" not in errors for _, errors in outputs), outputs
    assert number.name in outputs[1][1] and number.name not in outputs[0][1]
    assert (tmp_path / "stopped").is_file()
    kept = {path: path.stat().st_mtime_ns for path in candidates.part_paths(parts)}
    # Each rank was in its first part or at the beginning of its second.
    assert 1 <= len(kept) <= 2
    assert not (folder / manifest.MANIFEST).exists()

    run_ranks(2, command)
    assert (folder / manifest.MANIFEST).is_file()
    if verb == "sample":  # evaluating writes its parts again with scores
        assert {path: path.stat().st_mtime_ns for path in kept} == kept
    uninterrupted = inputs / f"{verb}_uninterrupted"
    config = folders.written(tmp_path, _tree(verb, inputs, uninterrupted))
    run_ranks(2, [f"launch/{verb}.py", config])  # once: then it has nothing to do
    assert _programs(folder) == _programs(uninterrupted)
    assert len(_programs(folder)) == NUM_PARTS * PER_PART * (12 if verb == "sample" else 13)
