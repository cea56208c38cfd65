"""Local ranks: the first to fail ends the others; signals reach all; nobody stays behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from parallel.spawn import run_ranks

ROOT = Path(__file__).parent.parent.parent


def _script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "script.py"
    path.write_text(text)
    return str(path)


def test_all_well_is_zero(tmp_path: Path) -> None:
    script = _script(tmp_path, "import os, sys; sys.exit(os.environ['WORLD_SIZE'] != '2')")
    assert run_ranks([script], num_ranks=2) == 0


def test_the_first_failure_ends_the_others(tmp_path: Path) -> None:
    text = "import os, sys, time\nif os.environ['RANK'] == '1': sys.exit(7)\ntime.sleep(300)"
    started = time.monotonic()
    assert run_ranks([_script(tmp_path, text)], num_ranks=3) == 7
    assert time.monotonic() - started < 120


_CALLER = """
import sys
from parallel.spawn import run_ranks
try:
    run_ranks([sys.argv[1], sys.argv[2]], num_ranks=2)
except KeyboardInterrupt:
    print("interrupted")
"""
_WORKER = """
import os, signal, sys, time
def stop(*_):
    open(f"{sys.argv[1]}/stopped_{os.environ['RANK']}", "w")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
open(f"{sys.argv[1]}/pid_{os.environ['RANK']}", "w").write(str(os.getpid()))
time.sleep(300)
"""


def _start(tmp_path: Path) -> tuple["subprocess.Popen[str]", list[int]]:
    script = _script(tmp_path, _WORKER)
    caller = subprocess.Popen(
        [sys.executable, "-c", _CALLER, script, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    pids = [tmp_path / "pid_0", tmp_path / "pid_1"]
    deadline = time.monotonic() + 60
    while not all(path.exists() and path.read_text() for path in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return caller, [int(path.read_text()) for path in pids]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_ctrl_c_lets_every_rank_end_its_own_way(tmp_path: Path) -> None:
    caller, _ = _start(tmp_path)
    caller.send_signal(signal.SIGINT)
    out, _ = caller.communicate(timeout=60)
    assert "interrupted" in out
    assert (tmp_path / "stopped_0").exists() and (tmp_path / "stopped_1").exists()


def test_a_killed_caller_leaves_no_rank_behind(tmp_path: Path) -> None:
    caller, pids = _start(tmp_path)
    caller.kill()
    caller.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while any(_is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "ranks outlived their caller"
        time.sleep(0.1)
