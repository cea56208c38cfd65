"""What starts ranks in an allocation: the documented lines, and runs that share a node."""

import os
from pathlib import Path

import pytest

from tests import small
from tests.launch.launching import BIN, SETTINGS, documented, losses, train_config
from tests.ranks import run_ranks
from tests.slurm.cluster import Cluster
from training.config import TrainConfig

_LINES = {
    "srun": [documented("    srun python launch/train.py")],
    "mpirun": [documented("    mpirun --bind-to none")],
    "deepspeed": [documented("--launcher slurm --launcher_args")],
    "hostfile": [documented("scontrol show hostnames"), documented("hostfile", "--launcher slurm")],
    "openmpi": [documented("hostfile", "--launcher openmpi")],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    return small.prepared(tmp_path_factory.mktemp("launchers"), training={"max_steps": 4})


@pytest.fixture(scope="module")
def two(data: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """What two ranks log without any launcher."""
    folder = tmp_path_factory.mktemp("two") / "run"
    run_ranks(2, ["launch/train.py", str(train_config(data, folder))])
    return losses(folder)


def _submit(cluster: Cluster, script: Path, lines: list[str], *options: str, **extra: str) -> str:
    """Submit lines as a person's own batch script."""
    script.write_text("\n".join(["#!/usr/bin/env bash", "set -euo pipefail", *lines]) + "\n")
    return cluster.sbatch(
        *("--mem=100", f"--output={script.with_suffix('.log')}", *options, str(script)),
        extra={**SETTINGS, "PATH": BIN + os.pathsep + cluster.environment["PATH"], **extra},
    )


def _wait(cluster: Cluster, job: str, script: Path) -> None:
    state = cluster.wait(job, seconds=500)
    assert state == "COMPLETED", script.with_suffix(".log").read_text()


def test_each_documented_line_gives_the_same_losses_on_two_nodes(
    cluster: Cluster, data: TrainConfig, two: list[float], tmp_path: Path
) -> None:
    lines: list[str] = []
    for name, documented_lines in _LINES.items():
        path = train_config(data, tmp_path / name)
        for line in documented_lines:
            line = line.replace("CONFIG", str(path)).replace("slots=8", "slots=1")
            line = line.replace("hostfile hostfile", f"hostfile {tmp_path}/hosts")
            lines.append(line.replace(">hostfile", f">{tmp_path}/hosts"))
    script = tmp_path / "lines.sh"
    two_nodes = ("--nodes=2", "--ntasks-per-node=1")
    # The names of the test's nodes do not resolve.
    job = _submit(cluster, script, lines, *two_nodes, MASTER_ADDR="127.0.0.1")
    _wait(cluster, job, script)
    assert {name: losses(tmp_path / name) for name in _LINES} == dict.fromkeys(_LINES, two)
    assert two[-1] == 2


_ALL_AT_ONCE = """\
srun --overlap bash -c 'touch {folder}/here-$SLURM_JOB_ID-$SLURM_STEP_ID
  until (($(ls {folder}/here-* | wc -l) == 4)); do sleep 0.1; done
  exec python launch/train.py {config}' &"""


def test_two_steps_of_two_jobs_on_one_node_do_not_meet(
    cluster: Cluster, data: TrainConfig, two: list[float], tmp_path: Path
) -> None:
    jobs: dict[Path, str] = {}
    for job in ("a", "b"):
        script = tmp_path / f"{job}.sh"
        configs = [train_config(data, tmp_path / f"{job}{step}") for step in (0, 1)]
        lines = [_ALL_AT_ONCE.format(folder=tmp_path, config=config) for config in configs]
        jobs[script] = _submit(
            cluster, script, [*lines, "wait -n", "wait -n"], "--ntasks=2", "--nodelist=n0"
        )
    for script, job in jobs.items():
        _wait(cluster, job, script)
    assert [losses(tmp_path / name) for name in ("a0", "a1", "b0", "b1")] == [two] * 4
