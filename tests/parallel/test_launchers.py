"""Every launcher's variables become the same five."""

import os

import pytest

from parallel.launchers import first_node, port_of, run_and_step
from parallel.ranks import discover
from training.config import ConfigError


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


def test_a_batch_script_and_a_shell_of_salloc_are_one_process() -> None:
    batch = {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_LOCALID": "0"}
    assert _found(batch) == (0, 1, 0, "python")
    assert _found({**batch, "SLURM_STEP_ID": "4294967290"}) == (0, 1, 0, "python")


def test_ranks_that_a_person_numbers_meet_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "environ", dict(os.environ))  # what `discover` adds is gone after
    discover()
    assert (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]) == ("127.0.0.1", "29500")


def test_contradictions_are_errors() -> None:
    with pytest.raises(ConfigError, match="rank 4 of 4"):
        discover({"RANK": "4", "WORLD_SIZE": "4"})


def test_ranks_of_an_unknown_mpirun_do_not_each_train_alone() -> None:
    with pytest.raises(ConfigError, match="started 4 times by an mpirun that is not Open MPI's"):
        discover({"PMI_RANK": "1", "PMI_SIZE": "4"})


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu[03-05,9]", "gpu03"),
        ("a1,b2", "a1"),
        ("node7", "node7"),
        ("n-[1,4]", "n-1"),
        ("rack[2-3]-gpu[04,07]-ib,x1", "rack2-gpu04-ib"),
    ],
)
def test_first_node_of_a_list(nodes: str, first: str) -> None:
    job = {"SLURM_JOB_NODELIST": nodes, "SLURM_STEP_NUM_NODES": "2"}
    assert first_node(job, "srun") == first
    assert first_node({**job, "SLURM_STEP_NUM_NODES": "1"}, "srun") == "127.0.0.1"


def test_mpirun_over_nodes_meets_at_its_own_or_asks_for_the_address() -> None:
    ranks = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
    named = {**ranks, "PMIX_NAMESPACE": "prterun-gpu-03-26502@1"}
    assert first_node(named, "mpirun") == "gpu-03"
    assert first_node({**named, "SLURM_JOB_NODELIST": "n[4-5]"}, "mpirun") == "n4"
    with pytest.raises(ConfigError, match="set MASTER_ADDR"):
        first_node({**ranks, "PMIX_NAMESPACE": "3283353601"}, "mpirun")


def _port_of(env: dict[str, str], launcher: str) -> int:
    return port_of(*run_and_step(env, launcher))


def test_runs_beside_each_other_have_ports_of_their_own() -> None:
    # Forty jobs on a node, each with four steps: the numbers that are in use at one time.
    steps = [
        _port_of({"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)}, "srun")
        for job in range(81_970, 82_010)
        for step in range(4)
    ]
    assert len(set(steps)) == len(steps)
    # Below what the system gives to outgoing connections.
    assert all(20_000 <= port < 30_000 for port in steps)
    # Open MPI 5 and 4.
    five = [f"prterun-gpu03-{process}@{job}" for process in (26_502, 26_503) for job in (1, 2)]
    four = [str(family << 16 | 1) for family in (50_100, 50_101)]
    ports = [_port_of({"PMIX_NAMESPACE": name}, "mpirun") for name in five + four]
    assert len(set(ports)) == len(ports)
