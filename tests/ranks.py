"""Spawn real ranks over gloo for a test, with a deadline and every rank's output.

results = run_distributed(function, 2, argument)        # function(ranks, argument)
outputs = run_ranks(2, ["launch/train.py", "config.json"])
"""

import atexit
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, TypeVar, cast

Result = TypeVar("Result")

ROOT = Path(__file__).parent.parent
_ALONE = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


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
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        **_ALONE,
        **(extra or {}),
    }


class Rank:
    """A started process, as `subprocess.Popen` is one."""

    def __init__(self, pid: int, output: Path) -> None:
        self.pid, self.returncode, self._output = pid, cast(int | None, None), output

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        code = self._output.with_suffix(".code")
        if self.returncode is None and code.is_file():
            self.returncode = int(code.read_text())
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; what it wrote to standard output and error.

        Raises:
            subprocess.TimeoutExpired: it has not ended.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self._output), timeout or 0.0)
            time.sleep(0.01)
        out, err = (self._output.with_suffix(suffix).read_text() for suffix in (".out", ".err"))
        return out, err


class _Server:
    """tests/rank_server.py, one for each process of the tests."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ranks-")
        self._number = count()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.rank_server"],
            cwd=ROOT,
            env={**os.environ, **_ALONE},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self.close)

    def start(self, command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> Rank:
        assert self._process.stdin is not None and self._process.stdout is not None
        output = Path(self._folder.name) / str(next(self._number))
        request = {
            "command": list(command),
            "cwd": str(cwd),
            "environment": dict(environment),
            "output": str(output),
        }
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Rank(int(self._process.stdout.readline()), output)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._folder.cleanup()


_server = cache(_Server)


def start_ranks(
    num_ranks: int,
    command: Sequence[str],
    extra: Mapping[str, str] | None = None,
    *,
    cwd: Path = ROOT,
) -> list[Rank]:
    """Start `python command...` once per rank, each in a process group of its own."""
    port = free_port()
    return [
        _server().start(command, cwd, rank_environment(rank, num_ranks, port, extra))
        for rank in range(num_ranks)
    ]


def kill_ranks(processes: Sequence[Rank]) -> None:
    """End what still runs of them, and wait for it."""
    for process in processes:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=30)


def run_ranks(
    num_ranks: int,
    command: Sequence[str],
    *,
    timeout: float = 240,
    extra: Mapping[str, str] | None = None,
    check: bool = True,
    cwd: Path = ROOT,
) -> list[subprocess.CompletedProcess[str]]:
    """Run the command on all ranks to its end; a failing rank fails the test with all output."""
    processes = start_ranks(num_ranks, command, extra, cwd=cwd)
    finished: list[subprocess.CompletedProcess[str]] = []
    try:
        for process in processes:
            try:
                out, err = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                kill_ranks(processes)
                out, err = process.communicate()
                err += f"\n[killed after {timeout} s]"
            code = process.returncode
            assert code is not None
            finished.append(subprocess.CompletedProcess(command, code, out, err))
    finally:
        kill_ranks(processes)
    if check and any(done.returncode for done in finished):
        report = "\n".join(
            f"--- rank {rank}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
            for rank, done in enumerate(finished)
        )
        raise AssertionError(f"{' '.join(command)} failed on {num_ranks} ranks\n{report}")
    return finished


def run_distributed(
    function: Callable[..., Result], num_ranks: int, *arguments: Any, timeout: float = 240
) -> list[Result]:
    """Call `function(ranks, *arguments)` on connected gloo ranks; its results in rank order.

    Args:
        function: At the top level of its module: every rank imports it by name.
        num_ranks: Processes to start.
        arguments: Pickled, as are the results.
        timeout: Seconds after which the ranks are killed.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    with tempfile.TemporaryDirectory(prefix="call-") as scratch:
        folder = Path(scratch)
        (folder / "arguments.pickle").write_bytes(pickle.dumps(arguments))
        run_ranks(num_ranks, ["-m", "tests.call", name, scratch], timeout=timeout)
        paths = [folder / f"{rank}.pickle" for rank in range(num_ranks)]
        return [pickle.loads(path.read_bytes()) for path in paths]
