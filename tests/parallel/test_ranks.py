"""One process among others: errors that end all of them once, and what is left behind."""

import socket
import subprocess
import sys

import pytest

from parallel.ranks import Ranks
from tests.ranks import ROOT, rank_environment, run_ranks


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
