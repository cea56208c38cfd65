"""One process among others: errors that end all of them once, and what is left behind."""

import os
import resource
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from parallel.ranks import Ranks
from tests.ranks import ROOT, rank_environment, run_distributed


def test_a_port_that_is_taken_ends_in_one_message() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for script in ("launch/train.py", "launch/preflight.py"):
            done = subprocess.run(
                [sys.executable, script],
                cwd=ROOT,
                env=rank_environment(0, 2, port),
                capture_output=True,
                text=True,
                timeout=200,
                check=False,
            )
            (message,) = done.stderr.splitlines()
            assert f"port {port} of {socket.gethostname()}" in message
            assert "--master_port" in message and "MASTER_PORT=" in message


def test_one_rank_talks_to_itself() -> None:
    ranks = Ranks(rank=0, world_size=1, local_rank=0, launcher="python")
    assert ranks.gather("x") == ["x"]
    for said in (True, False):
        assert ranks.any_rank(said, while_waiting=lambda: None) is said


def _exchanged(ranks: Ranks) -> tuple[list[str], str, list[float], int]:
    main_only = ranks.on_main(lambda: ranks.rank)
    return (
        ranks.gather("x" * ranks.rank),
        ranks.broadcast(f"of {ranks.rank}"),
        ranks.sum([1.0, ranks.rank]),
        main_only,
    )


def test_ranks_exchange_objects_and_numbers() -> None:
    expected = (["", "x", "xx"], "of 0", [3.0, 3.0], 0)
    assert run_distributed(_exchanged, 3) == [expected] * 3


def test_on_gpus_one_group_alone_is_asked_for_gloo(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, object]] = []

    def opened(backend: str, *, timeout: timedelta) -> None:
        asked.append((backend, timeout))

    monkeypatch.setattr(dist, "init_process_group", opened)
    monkeypatch.setattr(dist, "new_group", opened)
    ranks = Ranks(rank=0, world_size=1, local_rank=0, launcher="python")
    try:
        ranks.connect(torch.device("cuda"), timeout_minutes=7)
        # What names no backend, as megatron-core and DeepSpeed do not, gets the first one's.
        assert asked == [("nccl", timedelta(minutes=7)), ("gloo", timedelta(minutes=7))]
        assert ranks.timeout == timedelta(minutes=7)
        asked.clear()
        ranks.connect(torch.device("cpu"))
        assert asked == [("gloo", timedelta(minutes=30))]
    finally:
        ranks.disconnect()


def _threads_after_disconnect(ranks: Ranks) -> list[str]:
    """The names of this process's threads."""
    import torch.distributed.nn.functional  # noqa: F401  # pyright: ignore[reportUnusedImport]

    ranks.barrier()
    ranks.disconnect()
    tasks = os.listdir("/proc/self/task")
    return [Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in tasks]


@pytest.mark.skipif(sys.platform != "linux", reason="threads are listed in /proc")
def test_disconnect_ends_the_groups_threads_whatever_was_imported_between():
    # One left over aborts the exit now and then: "terminate called without an active exception".
    for threads in run_distributed(_threads_after_disconnect, 2):
        assert any("python" in name for name in threads), threads
        assert not any("gloo" in name for name in threads), threads


def _file_limits(ranks: Ranks) -> tuple[int, int]:
    """The limits of open files, usual ones before the ranks connected."""
    ranks.disconnect()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, min(hard, 4096) if hard > 0 else 4096))
    ranks.connect(torch.device("cpu"))
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def test_connected_ranks_may_open_as_many_files_as_they_are_allowed() -> None:
    assert run_distributed(_file_limits, 1) == [(4096, 4096)]
