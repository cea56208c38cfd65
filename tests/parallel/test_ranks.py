"""Every launcher's variables become the same five."""

import sys

import pytest

from parallel.ranks import Ranks, _first_node, _port, discover
from tests.ranks import run_ranks


def _found(environment: dict[str, str]) -> tuple[int, int, int, str]:
    ranks = discover(environment)
    return ranks.rank, ranks.world_size, ranks.local_rank, ranks.launcher


def test_each_launcher_is_understood() -> None:
    assert _found({}) == (0, 1, 0, "python")
    torchrun = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
    assert _found(torchrun) == (3, 4, 1, "torchrun")
    mpirun = {
        "OMPI_COMM_WORLD_RANK": "1",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    }
    assert _found(mpirun) == (1, 2, 1, "mpirun")
    srun = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1", "SLURM_STEP_ID": "0"}
    assert _found(srun) == (5, 8, 1, "srun")


def test_a_batch_script_is_one_process() -> None:
    batch = {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_LOCALID": "0"}
    assert _found(batch) == (0, 1, 0, "python")


def test_contradictions_are_errors() -> None:
    with pytest.raises(RuntimeError, match="rank 4 of 4"):
        discover({"RANK": "4", "WORLD_SIZE": "4"})


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("gpu[03-05,9]", "gpu03"), ("a1,b2", "a1"), ("node7", "node7"), ("n-[1,4]", "n-1")],
)
def test_first_node_of_a_list(nodes: str, first: str) -> None:
    assert _first_node({"SLURM_JOB_NODELIST": nodes}) == first


def test_two_jobs_have_two_ports() -> None:
    assert _port({"SLURM_JOB_ID": "17"}) != _port({"SLURM_JOB_ID": "18"})


def test_one_rank_talks_to_itself() -> None:
    ranks = Ranks(rank=0, world_size=1, local_rank=0, launcher="python")
    assert ranks.gather("x") == ["x"]
    assert ranks.agree(True) and not ranks.agree(False)


_LEAVES_NO_THREADS = """
import os
from parallel.ranks import discover
ranks = discover()
ranks.connect(ranks.device())
import torch.distributed.nn.functional
ranks.barrier()
ranks.disconnect()
tasks = os.listdir("/proc/self/task")
print([open(f"/proc/self/task/{task}/comm").read().strip() for task in tasks])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are listed in /proc")
def test_disconnect_ends_the_groups_threads_whatever_was_imported_between():
    # One left over aborts the exit now and then: "terminate called without an active exception".
    for done in run_ranks(2, ["-c", _LEAVES_NO_THREADS]):
        assert "python" in done.stdout and "gloo" not in done.stdout
