"""Which signals are held back, how often, and how all ranks hear of one."""

import contextlib
import io
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from parallel.ranks import Ranks
from tests.ranks import run_distributed
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
            pytest.fail("it continued")


def _stopped(ranks: Ranks) -> tuple[bool, str]:
    """Whether this rank stopped, and what it wrote to standard error."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), StopSignal(ranks) as stop:
        ranks.barrier()
        try:
            with stop.agreed():
                if not ranks.is_main:  # has no work, and waits for the other when the signal comes
                    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
                while ranks.is_main:
                    stop.check()
                    time.sleep(0.01)
        except Stopped:
            return True, errors.getvalue()
    return False, errors.getvalue()


def test_a_rank_that_waits_for_the_others_passes_its_signal_on() -> None:
    main, waiting = run_distributed(_stopped, 2, timeout=100)
    assert main == (True, "")
    assert waiting == (True, "SIGTERM: stopping at the next check\n")
