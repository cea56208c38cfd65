"""SIGUSR1 to one rank of sampling or evaluating: all ranks keep what they have and leave."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.ranks import kill_ranks, run_ranks, start_ranks
from tests.training.evaluation import models, stages
from training import manifest
from training.evaluation import candidates

NUM_QUESTIONS = 150


def _tree(verb: str, tmp_path: Path) -> dict[str, Any]:
    """Many parts of one question each: more than is drawn before the signal."""
    inputs, folder = tmp_path / "inputs", tmp_path / "run"
    stages.write_inputs(inputs)
    models.write_gsm8k(tmp_path / "many", NUM_QUESTIONS)
    many: dict[str, Any] = {"name": "many", "kind": "gsm8k", "path": str(tmp_path / "many")}
    if verb == "sample":
        tree = stages.sample_tree(
            inputs, folder, questions={**many, "split": "train"}, questions_per_part=1
        )
        tree["sampling"]["checkpoints"] = [str(inputs / "step_1")]
        return tree
    return stages.evaluate_tree(inputs, folder, benchmarks=[many], questions_per_part=1)


@pytest.mark.parametrize("verb", ["sample", "evaluate"])
def test_usr1_to_one_rank_stops_all_between_two_parts(verb: str, tmp_path: Path) -> None:
    command = [f"launch/{verb}.py", stages.written(tmp_path, _tree(verb, tmp_path))]
    folder = tmp_path / "run"
    parts = folder if verb == "sample" else folder / "parts" / "many"
    mark = {"TINYGSM_STOPPED_FILE": str(tmp_path / "stopped")}
    processes = start_ranks(2, command, mark)
    try:
        deadline = time.monotonic() + 200
        while len(candidates.part_paths(parts)) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        # To the whole group, as Slurm sends it: the jailed processes get it too.
        os.killpg(processes[1].pid, signal.SIGUSR1)
        outputs = [process.communicate(timeout=100) for process in processes]
    finally:
        kill_ranks(processes)
    assert [process.returncode for process in processes] == [130, 130], outputs
    assert all("Traceback" not in errors for _, errors in outputs), outputs
    assert "SIGUSR1" in outputs[1][1] and "SIGUSR1" not in outputs[0][1]
    assert (tmp_path / "stopped").is_file()
    kept = {path: path.stat().st_mtime_ns for path in candidates.part_paths(parts)}
    assert 4 <= len(kept) < NUM_QUESTIONS
    assert not (folder / manifest.MANIFEST).exists()

    run_ranks(2, command)
    assert len(candidates.part_paths(parts)) == NUM_QUESTIONS
    if verb == "sample":  # evaluating writes its parts again with scores
        assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert (folder / manifest.MANIFEST).is_file()
