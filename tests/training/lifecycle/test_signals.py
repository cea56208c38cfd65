"""Which signals are held back, how often, and how all ranks hear of one."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from parallel.ranks import Ranks
from tests.ranks import kill_ranks, start_ranks
from training.lifecycle.signals import Stopped, StopSignal

ONE = Ranks(rank=0, world_size=1, local_rank=0, launcher="test")


@pytest.fixture(autouse=True)
def fatal() -> Iterator[list[int]]:
    """What would have ended the process."""
    came: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGUSR1)
    before = {n: signal.signal(n, lambda number, _: came.append(number)) for n in numbers}
    yield came
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def test_usr1_may_come_any_number_of_times(
    fatal: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    with StopSignal(ONE) as stop:
        assert not stop.requested
        send(signal.SIGUSR1)
        send(signal.SIGUSR1)
        assert stop.requested and not fatal
    assert capsys.readouterr().err == "SIGUSR1: stopping at the next check\n"
    send(signal.SIGUSR1)
    assert fatal == [signal.SIGUSR1]


def test_the_second_sigterm_ends_the_process(fatal: list[int]) -> None:
    with StopSignal(ONE) as stop:
        send(signal.SIGUSR1)
        send(signal.SIGTERM)
        assert stop.requested and not fatal
        send(signal.SIGTERM)
        assert fatal == [signal.SIGTERM]


def test_a_check_raises_only_after_a_signal() -> None:
    with StopSignal(ONE) as stop, pytest.raises(Stopped):
        with stop.agreed():
            stop.check()
        send(signal.SIGINT)
        # Nothing was left undone: what is complete is used.
        with stop.agreed():
            pass
        with stop.agreed():
            stop.check()
            pytest.fail("it went on")


_WAITS = """
import sys, time
from pathlib import Path
from parallel.ranks import discover
from training.lifecycle.signals import Stopped, StopSignal
ranks = discover()
ranks.connect(ranks.device())
with StopSignal(ranks) as stop:
    ranks.barrier()
    try:
        with stop.agreed():
            Path(sys.argv[1], f"in_{ranks.rank}").touch()
            while ranks.is_main:  # the other has nothing to do
                stop.check()
                time.sleep(0.01)
    except Stopped:
        print("stopped", flush=True)
ranks.disconnect()
"""


def test_a_rank_that_waits_for_the_others_passes_its_signal_on(tmp_path: Path) -> None:
    processes = start_ranks(2, ["-c", _WAITS, str(tmp_path)])
    try:
        deadline = time.monotonic() + 100
        while len(list(tmp_path.iterdir())) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        processes[1].send_signal(signal.SIGTERM)
        outputs = [process.communicate(timeout=60) for process in processes]
    finally:
        kill_ranks(processes)
    assert [out for out, _ in outputs] == ["stopped\n", "stopped\n"], outputs
    assert "SIGTERM" in outputs[1][1] and not outputs[0][1]
