"""The README's ways to start training: each finds its ranks and gives the same losses."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import small
from tests.ranks import ROOT, free_port
from training.config import TrainConfig, resolved
from training.files import write_json

BIN = Path(sys.executable).parent
TRAIN = str(ROOT / "launch" / "train.py")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    return small.prepared(tmp_path_factory.mktemp("launchers"), training={"max_steps": 4})


def _environment() -> dict[str, str]:
    """As a person's shell: nothing of ranks in it."""
    ours = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    clean = {name: value for name, value in os.environ.items() if name not in ours}
    path = f"{BIN}{os.pathsep}{clean['PATH']}"
    return {**clean, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PATH": path}


def _losses(data: TrainConfig, folder: Path, command: list[str]) -> list[float]:
    tree: dict[str, Any] = resolved(data)
    tree["run"]["folder"] = str(folder)
    path = folder.with_suffix(".json")
    write_json(path, tree)
    done = subprocess.run(
        [*command, TRAIN, str(path)],
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    state = json.loads((folder / "checkpoints" / "step_4" / "train_state.json").read_text())
    return [json.loads(line)["train/loss"] for line in lines] + [state["layout"]["data"]]


_TWO = {
    "deepspeed": ["deepspeed", "--num_accelerators", "2"],
    "torchrun": ["torchrun", "--nproc-per-node=2"],
    "mpirun": [
        "mpirun",
        "--allow-run-as-root",
        "--map-by",
        "slot:OVERSUBSCRIBE",
        "--bind-to",
        "none",
        "-np",
        "2",
        sys.executable,
    ],
}


@pytest.fixture(scope="module")
def plain(data: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return _losses(data, tmp_path_factory.mktemp("plain") / "run", [sys.executable])


def test_plain_python_is_one_rank(plain: list[float]) -> None:
    assert len(plain) == 5 and plain[-1] == 1


@pytest.mark.parametrize("launcher", sorted(_TWO))
def test_two_ranks_by_each_launcher(
    data: TrainConfig, plain: list[float], tmp_path: Path, launcher: str
) -> None:
    command = list(_TWO[launcher])
    command[0] = shutil.which(command[0], path=str(BIN)) or command[0]
    if launcher != "mpirun":
        # A port of its own: another run on this machine may hold the default one.
        command.append(f"--master{'-' if launcher == 'torchrun' else '_'}port={free_port()}")
    found = _losses(data, tmp_path / "run", command)
    assert found[-1] == 2
    # Two ranks add up in another order than one.
    assert found[:-1] == pytest.approx(plain[:-1], rel=1e-5)
