"""Run one command as N ranks on this machine, as a recipe does with its stages.

    code = run_ranks(["launch/train.py", "config.toml"], num_ranks=2)

Clusters use their own launchers (torchrun, deepspeed, mpirun, srun). This one makes a recipe on
a laptop end as a single program would: the first rank that fails ends the others, Ctrl-C reaches
every rank once and is waited for, no rank outlives this process, and nothing is printed beside
the ranks' own output.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from parallel.launchers import free_port

_LIBC = ctypes.CDLL(None)  # loaded here: between fork and exec nothing may be
_PR_SET_PDEATHSIG = 1
_SECONDS_TO_END = 60.0
"""For ranks to save and exit after a signal."""
_SECONDS_FOR_PEERS = 5.0
"""For the other ranks to print their messages after one has failed."""


def run_ranks(command: Sequence[str], *, num_ranks: int) -> int:
    """Run `python command...` on every rank and wait.

    Returns:
        0 when all ranks succeeded, else the exit code of the first that failed.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM came, and the ranks have had time to save and exit.
    """
    port = free_port()
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // num_ranks))
    stops: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        stops.append(number)
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)

    processes: list[subprocess.Popen[bytes]] = []
    # The ranks have sessions of their own: Ctrl-C reaches them once, through this process.
    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for rank in range(num_ranks):
            environment = {
                **os.environ,
                "RANK": str(rank),
                "WORLD_SIZE": str(num_ranks),
                "LOCAL_RANK": str(rank),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": threads,
            }
            processes.append(
                subprocess.Popen(
                    [sys.executable, *command],
                    env=environment,
                    start_new_session=True,
                    preexec_fn=die_with_parent,
                )
            )
        code = _wait(processes, stops)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stops:
        raise KeyboardInterrupt
    return code


def _wait(processes: list[subprocess.Popen[bytes]], stops: list[int]) -> int:
    failed = 0
    deadline = float("inf")
    while None in (codes := [process.poll() for process in processes]):
        failed = failed or next((code for code in codes if code), 0)
        if (failed or stops) and deadline == float("inf"):
            # Its peers would wait for a failed rank in a collective until it times out.
            deadline = time.monotonic() + (_SECONDS_TO_END if stops else _SECONDS_FOR_PEERS)
        if time.monotonic() > deadline:
            for process in processes:
                process.kill()
        time.sleep(0.05)
    return failed or next((code for code in codes if code), 0)


def die_with_parent() -> None:
    """Have the kernel kill this process when the process that started it ends; Linux only."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
