"""Preparing and executing by real MPI ranks: the same bytes, whoever works and whoever dies."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ranks import ROOT
from tests.training.data.preparing import config, content, jsonl, row
from training.config import PrepareConfig, resolved
from training.data.prepare import prepare

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
MPIRUN = ["mpirun", "--allow-run-as-root", "--map-by", "slot:OVERSUBSCRIBE", "--bind-to", "none"]


def start(num_ranks: int, *command: str) -> "subprocess.Popen[str]":
    hidden = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    path = os.pathsep.join([str(BIN), environment.get("PATH", "")])
    return subprocess.Popen(
        [*MPIRUN, "-np", str(num_ranks), sys.executable, *command],
        cwd=ROOT,
        env={**environment, "OMP_NUM_THREADS": "1", "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: "subprocess.Popen[str]", timeout: float = 200) -> tuple[int, str]:
    """Exit code and all that was said."""
    try:
        output, errors = process.communicate(timeout=timeout)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return process.returncode, output + errors


def run(num_ranks: int, *command: str) -> tuple[int, str]:
    return finish(start(num_ranks, *command))


def written(folder: Path, wanted: PrepareConfig) -> str:
    path = folder / f"{wanted.data.folder.name}.json"
    tree = {"data": resolved(wanted.data), "execution": resolved(wanted.execution)}
    path.write_text(json.dumps({"run": {"folder": str(folder / "run")}, **tree}))
    return str(path)


def rows(folder: Path, number: int) -> dict[str, Any]:
    return jsonl(folder, *(row(f"Ann has {n} apples and buys 4. How many?") for n in range(number)))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return rows(tmp_path_factory.mktemp("rows"), 2500)


@pytest.fixture(scope="module")
def alone(source: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process writes."""
    folder = tmp_path_factory.mktemp("alone") / "data"
    prepare(config(folder, source, run_programs=True))
    return content(folder)


@pytest.mark.parametrize("num_ranks", [1, 2, 4])
def test_any_number_of_ranks_prepares_the_same_bytes(
    num_ranks: int, source: dict[str, Any], alone: dict[str, bytes], tmp_path: Path
) -> None:
    path = written(tmp_path, config(tmp_path / "data", source, run_programs=True))
    code, said = run(num_ranks, "launch/prepare.py", path)
    assert code == 0, said
    assert (f"rank 0 maps over the {num_ranks - 1} other MPI ranks" in said) == (num_ranks > 1)
    assert content(tmp_path / "data") == alone
    assert not (tmp_path / "data.parts").exists()


def test_what_a_dead_worker_had_is_done_again(
    source: dict[str, Any], alone: dict[str, bytes], tmp_path: Path
) -> None:
    path = written(tmp_path, config(tmp_path / "data", source, run_programs=True))
    process = start(3, "launch/prepare.py", path)
    victim = _worker_of_a_rank(process)
    os.kill(victim, signal.SIGKILL)
    code, said = finish(process)
    assert code == 0, said
    assert "a worker process died: repeating 1 items" in said
    assert content(tmp_path / "data") == alone


def test_after_a_signal_or_a_dead_rank_the_next_call_makes_the_rest(tmp_path: Path) -> None:
    # More parts than are under way at a time.
    path = written(tmp_path, config(tmp_path / "data", rows(tmp_path, 12_000)))

    def broken_off(stop: signal.Signals, whom: Callable[[subprocess.Popen[str]], int]) -> str:
        made = set(tmp_path.glob("data.parts/part-*"))
        process = start(2, "launch/prepare.py", path)
        _wait_for(lambda: set(tmp_path.glob("data.parts/part-*")) - made, process)
        os.kill(whom(process), stop)
        code, said = finish(process)
        assert code != 0 and not (tmp_path / "data").exists(), said
        return said

    # mpirun passes a signal on to all ranks; a rank that dies ends an MPI job.
    said = broken_off(signal.SIGUSR1, lambda process: process.pid)
    assert "SIGUSR1: stopping at the next check" in said
    assert "signal 9" in broken_off(signal.SIGKILL, lambda process: _rank(process, 1))
    assert len(list(tmp_path.glob("data.parts/part-*"))) > 1
    prepare(config(tmp_path / "alone", rows(tmp_path, 12_000)))
    code, said = run(2, "launch/prepare.py", path)
    assert code == 0, said
    assert content(tmp_path / "data") == content(tmp_path / "alone")


def test_any_number_of_ranks_executes_to_the_same_lines(tmp_path: Path) -> None:
    program = "def simple_math_problem():\n    return {}\n"
    lines = [{"code": program.format(f"{n} * 7"), "gold": 35} for n in range(200)]
    lines += [{"code": "while True: pass", "kind": "stdout-last"}, {"code": "def f(:"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found: list[list[dict[str, Any]]] = []
    for num_ranks in (1, 3):
        target = tmp_path / f"out_{num_ranks}.jsonl"
        code, said = run(num_ranks, "launch/execute.py", str(tmp_path / "in.jsonl"), str(target))
        assert code == 0 and "202 programs in" in said, said
        found.append([json.loads(line) for line in target.read_text().splitlines()])
        for line in found[-1]:
            del line["seconds"]  # measured
    assert found[0] == found[1]
    assert [line["verdict"] for line in found[0][:7]] == ["wrong"] * 5 + ["right", "wrong"]


@pytest.mark.parametrize("verb", ["prepare", "execute"])
def test_processes_without_mpi_are_refused(verb: str, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("")
    words = [f"data.folder={tmp_path}/data"] if verb == "prepare" else [str(tmp_path / "in.jsonl")]
    words += [] if verb == "prepare" else [str(tmp_path / "out.jsonl")]
    done = subprocess.run(
        [sys.executable, f"launch/{verb}.py", *words],
        cwd=ROOT,
        env={**os.environ, "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "torchrun started 2 processes, but MPI has 1 rank" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_wrong_setting_is_said_once(tmp_path: Path) -> None:
    code, said = run(2, "launch/prepare.py", f"data.foldr={tmp_path}/data")
    assert code == 2
    assert said.count("did you mean data.folder?") == 1


def _rank(process: "subprocess.Popen[str]", rank: int) -> int:
    """The process id of a rank."""
    mark = f"OMPI_COMM_WORLD_RANK={rank}".encode()
    for child in _children(process.pid):
        if mark in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return child
    raise AssertionError(f"there is no rank {rank}")


def _worker_of_a_rank(process: "subprocess.Popen[str]") -> int:
    """The process that works for rank 1, once it is at work."""

    def found() -> list[int]:
        if len(_children(process.pid)) < 3:
            return []
        # The pool's process, not multiprocessing's resource tracker; its sandbox is its child.
        return [child for child in _children(_rank(process, 1)) if _children(child)]

    return _wait_for(found, process)[0]


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def _wait_for(condition: Any, process: "subprocess.Popen[str]") -> Any:
    deadline = time.monotonic() + 120
    while not (found := condition()):
        assert process.poll() is None and time.monotonic() < deadline, finish(process, 1)
        time.sleep(0.01)
    return found
