"""Spawn real ranks over gloo for a test, with a deadline and every rank's output.

outputs = run_ranks(2, ["tests/distributed/script.py", "argument"])
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def rank_environment(
    rank: int, num_ranks: int, port: int, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    return {
        **os.environ,
        "RANK": str(rank),
        "WORLD_SIZE": str(num_ranks),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "CUDA_VISIBLE_DEVICES": "",
        **(extra or {}),
    }


def start_ranks(
    num_ranks: int, command: Sequence[str], extra: Mapping[str, str] | None = None
) -> list[subprocess.Popen[str]]:
    """Start `python command...` once per rank, each in a process group of its own."""
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=rank_environment(rank, num_ranks, port, extra),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for rank in range(num_ranks)
    ]


def kill_ranks(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def run_ranks(
    num_ranks: int,
    command: Sequence[str],
    *,
    timeout: float = 240,
    extra: Mapping[str, str] | None = None,
    check: bool = True,
) -> list[subprocess.CompletedProcess[str]]:
    """Run the command on all ranks to its end; a failing rank fails the test with all output."""
    processes = start_ranks(num_ranks, command, extra)
    finished: list[subprocess.CompletedProcess[str]] = []
    try:
        for process in processes:
            try:
                out, err = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                kill_ranks(processes)
                out, err = process.communicate()
                err += f"\n[killed after {timeout} s]"
            finished.append(subprocess.CompletedProcess(command, process.returncode, out, err))
    finally:
        kill_ranks(processes)
    if check and any(done.returncode for done in finished):
        report = "\n".join(
            f"--- rank {rank}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
            for rank, done in enumerate(finished)
        )
        raise AssertionError(f"{' '.join(command)} failed on {num_ranks} ranks\n{report}")
    return finished
