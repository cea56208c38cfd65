import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from parallel.workers.pool import WorkerPool, in_chunks
from tests.ranks import ROOT
from training.config import ConfigError


@dataclass
class Double:
    fails_at: int = -1
    dies_at: int = -1
    lives_after: Path | None = None
    """A file that the death leaves, and that lets the next process live."""
    factor: int = 0

    def open(self) -> None:
        self.factor = 2

    def close(self) -> None:
        self.factor = 0

    def __call__(self, item: int, /) -> int:
        if item == self.fails_at:
            raise ValueError(f"{item} is no good")
        if item == self.dies_at and not (self.lives_after and self.lives_after.exists()):
            if self.lives_after:
                self.lives_after.touch()
            os._exit(1)
        return item * self.factor


class Pid(Double):
    def __call__(self, item: int, /) -> int:
        return os.getpid()


@pytest.mark.parametrize("num_workers", [1, 2])
def test_results_come_in_order(num_workers: int) -> None:
    results = list(WorkerPool(num_workers).imap(Double(), range(50)))
    assert results == [2 * item for item in range(50)]


def test_one_worker_is_this_process_and_is_closed() -> None:
    worker = Double()
    results = WorkerPool(1).imap(worker, range(3))
    assert next(results) == 0 and worker.factor == 2
    assert list(results) == [2, 4] and worker.factor == 0


@pytest.mark.parametrize("num_workers", [1, 2])
def test_an_error_in_a_worker_comes_out(num_workers: int) -> None:
    with pytest.raises(ValueError, match="7 is no good"):
        list(WorkerPool(num_workers).imap(Double(fails_at=7), range(20)))


def test_a_dead_worker_is_replaced_and_its_work_redone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Double(dies_at=13, lives_after=tmp_path / "died")
    results = list(WorkerPool(2).imap(worker, range(50)))
    assert results == [2 * item for item in range(50)] and (tmp_path / "died").exists()
    assert "a worker process died" in caplog.text


def test_what_kills_every_worker_is_an_error_not_a_hang() -> None:
    with pytest.raises(ConfigError, match=r"worker processes died 3 times.*data\.num_workers"):
        list(WorkerPool(2).imap(Double(dies_at=3), range(20)))


def test_no_worker_outlives_a_killed_parent() -> None:
    script = (
        "import os, signal\n"
        "from parallel.workers.pool import WorkerPool\n"
        "from tests.parallel.workers.test_pool import Pid\n"
        "if __name__ == '__main__':\n"
        "    print(next(WorkerPool(2).imap(Pid(), range(100))), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    worker = int(done.stdout)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists():
        assert time.monotonic() < deadline, "the worker is still alive"
        time.sleep(0.1)


def test_the_stream_is_read_only_a_little_ahead() -> None:
    taken = 0

    def stream() -> Iterator[int]:
        nonlocal taken
        for item in range(1000):
            taken += 1
            yield item

    results = WorkerPool(2).imap(Double(), stream())
    next(results)
    assert taken <= 10
    results.close()  # type: ignore[attr-defined]


def test_chunks_hold_everything_once() -> None:
    assert list(in_chunks(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(in_chunks([], 2)) == []
