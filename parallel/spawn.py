"""Run one command as N ranks on this machine, as the recipe does with its stages.

Clusters use their own launchers (torchrun, deepspeed, mpirun, srun). This one exists so
that a recipe on a laptop ends as one program should: the first rank to fail ends the
others, Ctrl-C reaches all of them and is waited for, nobody outlives us, and nothing is
printed that the ranks did not say.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

_LIBC = ctypes.CDLL(None)  # looked up here: between fork and exec nothing may be loaded
_PR_SET_PDEATHSIG = 1
_SECONDS_TO_END = 60.0
"""For saving after a signal."""
_SECONDS_FOR_PEERS = 5.0
"""For the other ranks to say what they have to say after one has failed."""


def run_ranks(command: Sequence[str], *, num_ranks: int) -> int:
    """Run `python command...` on every rank and wait.

    Returns:
        0 when all ranks ended well, else the exit code of the first that did not.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM came; the ranks had their time to save and end.
    """
    port = _free_port()
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // num_ranks))
    stops: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        stops.append(number)
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)

    processes: list[subprocess.Popen[bytes]] = []
    # A session of their own: Ctrl-C reaches the ranks once, through us.
    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
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
                    preexec_fn=_die_with_parent if sys.platform == "linux" else None,
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
            # A failing rank's peers would wait for it in a collective for half an hour.
            deadline = time.monotonic() + (_SECONDS_TO_END if stops else _SECONDS_FOR_PEERS)
        if time.monotonic() > deadline:
            for process in processes:
                process.kill()
        time.sleep(0.05)
    return failed or next((code for code in codes if code), 0)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
