"""What ends a verb is said once: by the first rank, or by the nodes that alone have met it."""

import time
from collections.abc import Sequence

import pytest

from launch import arguments
from training.config import ConfigError


def _fails(_: Sequence[str]) -> int:
    raise ConfigError("run.seed = -1 is wrong")


@pytest.mark.parametrize(
    ("rank", "local_rank", "waits", "said"),
    [
        ("0", "0", False, "train.py: run.seed = -1 is wrong\n"),
        ("1", "1", True, ""),
        ("2", "0", True, "train.py: rank 2: run.seed = -1 is wrong\n"),
    ],
)
def test_the_first_rank_speaks_at_once_and_another_node_when_it_was_not_ended_by_that(
    rank: str,
    local_rank: str,
    waits: bool,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr("sys.argv", ["launch/train.py"])
    for name, value in {"RANK": rank, "WORLD_SIZE": "4", "LOCAL_RANK": local_rank}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        arguments.run(_fails)
    assert ended.value.code == arguments.EXIT_BAD_INPUT
    assert capsys.readouterr().err == said
    assert bool(slept) == waits


def test_a_launcher_that_cannot_be_used_is_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setattr("sys.argv", ["launch/train.py"])
    with pytest.raises(SystemExit) as ended:
        arguments.run(_fails)
    assert ended.value.code == arguments.EXIT_BAD_INPUT
    assert capsys.readouterr().err.startswith("train.py: started 2 times by an mpirun")
