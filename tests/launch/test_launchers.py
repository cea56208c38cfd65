"""The documented ways to start training: each finds its ranks and gives the same losses."""

import subprocess
from pathlib import Path

import pytest

from tests import small
from tests.launch.launching import documented, losses, shell_environment, train_config
from tests.ranks import ROOT, free_port
from training.config import TrainConfig

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    return small.prepared(tmp_path_factory.mktemp("launchers"), training={"max_steps": 4})


def _run_together(data: TrainConfig, lines: dict[Path, str]) -> list[list[float]]:
    """Run command lines at the same time, each with its run folder; what each run logged."""
    for folder in lines:
        train_config(data, folder)
    processes = [
        subprocess.Popen(
            ["bash", "-c", line.replace("CONFIG", f"{folder}.json")],
            cwd=ROOT,
            env=shell_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for folder, line in lines.items()
    ]
    try:
        said = [process.communicate(timeout=400)[0] for process in processes]
    finally:
        for process in processes:
            process.terminate()
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(said)
    return [losses(folder) for folder in lines if folder.is_dir()]


@pytest.fixture(scope="module")
def plain(data: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    folder = tmp_path_factory.mktemp("plain") / "run"
    (found,) = _run_together(data, {folder: documented("    python launch/train.py")})
    return found


@pytest.fixture(scope="module")
def two(
    data: TrainConfig, plain: list[float], tmp_path_factory: pytest.TempPathFactory
) -> list[float]:
    """What two ranks log: those of torchrun."""
    folder = tmp_path_factory.mktemp("two") / "run"
    line = documented("torchrun").replace("node=8", "node=2")
    (found,) = _run_together(data, {folder: line})
    assert found[-1] == 2
    # Two ranks add up in another order than one.
    assert found[:-1] == pytest.approx(plain[:-1], rel=1e-5)
    return found


def test_plain_python_is_one_rank(plain: list[float]) -> None:
    assert len(plain) == 5 and plain[-1] == 1


@pytest.mark.parametrize(
    "line",
    [
        documented("torchrun").replace("node=8", "node=2"),
        documented("    deepspeed launch").replace("launch/", "--num_accelerators 2 launch/"),
        documented("mpirun -np 8").replace("-np 8", "-np 2"),
    ],
    ids=lambda line: line.split()[0],
)
def test_two_runs_at_once_do_not_meet(
    data: TrainConfig, two: list[float], tmp_path: Path, line: str
) -> None:
    assert _run_together(data, {tmp_path / "a": line, tmp_path / "b": line}) == [two, two]


@pytest.mark.parametrize("words", ["--master_addr=127.0.0.1", "--launcher openmpi"])
def test_deepspeed_with_a_hostfile_of_one_machine(
    data: TrainConfig, two: list[float], tmp_path: Path, words: str
) -> None:
    (tmp_path / "hostfile").write_text("localhost slots=2\n")
    line = documented("deepspeed --hostfile", words)
    line = line.replace("hostfile hostfile", f"hostfile {tmp_path}/hostfile")
    assert _run_together(data, {tmp_path / "run": line}) == [two]


def test_deepspeed_with_a_hostfile_of_two_machines_and_a_call_on_each(
    data: TrainConfig, two: list[float], tmp_path: Path
) -> None:
    (tmp_path / "hostfile").write_text("one slots=1\ntwo slots=1\n")
    line = documented("--node_rank=K").replace("=NODE", f"=127.0.0.1 --master_port={free_port()}")
    line = line.replace("hostfile hostfile", f"hostfile {tmp_path}/hostfile")
    # Both have the config of the first.
    first, second = (line.replace("=K", f"={number}") for number in (0, 1))
    second = second.replace("CONFIG", f"{tmp_path}/run.json")
    assert _run_together(data, {tmp_path / "run": first, tmp_path / "no": second}) == [two]
