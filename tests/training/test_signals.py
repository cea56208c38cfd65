"""Which signals are held back, and how often."""

import os
import signal
from collections.abc import Iterator

import pytest

from training.signals import StopSignal


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
    with StopSignal() as stop:
        assert not stop.wanted
        send(signal.SIGUSR1)
        send(signal.SIGUSR1)
        assert stop.wanted and not fatal
    assert capsys.readouterr().err == "SIGUSR1: stopping at the next safe point\n"
    send(signal.SIGUSR1)
    assert fatal == [signal.SIGUSR1]


def test_the_second_sigterm_ends_the_process(fatal: list[int]) -> None:
    with StopSignal() as stop:
        send(signal.SIGUSR1)
        send(signal.SIGTERM)
        assert stop.wanted and not fatal
        send(signal.SIGTERM)
        assert fatal == [signal.SIGTERM]


def test_only_the_signals_asked_for_are_held_back(fatal: list[int]) -> None:
    with StopSignal((signal.SIGUSR1,)) as stop:
        send(signal.SIGTERM)
        assert fatal == [signal.SIGTERM] and not stop.wanted
