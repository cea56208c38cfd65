"""Independent work ends on a signal at its next check, and its end is no hang."""

import os
import signal
from collections.abc import Iterator

import pytest

from parallel.ranks import Ranks
from training.lifecycle.cancellation import Cancellation
from training.lifecycle.signals import Stopped, StopSignal
from training.lifecycle.watchdog import Watchdog

ONE = Ranks(rank=0, world_size=1, local_rank=0, launcher="test")


class Beats(Watchdog):
    """A watchdog that only notes what it is told."""

    def __init__(self) -> None:
        super().__init__(ONE, minutes=0, alert=lambda title, text: None)
        self.seen: list[str] = []

    def heartbeat(self) -> None:
        self.seen.append("heartbeat")

    def pause(self) -> None:
        self.seen.append("pause")


@pytest.fixture
def stop() -> Iterator[StopSignal]:
    with StopSignal(ONE) as signals:
        yield signals


def test_every_check_is_a_heartbeat_and_the_end_a_pause(stop: StopSignal):
    watchdog = Beats()
    cancellation = Cancellation(stop, watchdog)
    with cancellation.independent_work():
        for _ in range(2):
            cancellation.check_cancelled()
    assert watchdog.seen == ["heartbeat"] * 3 + ["pause", "heartbeat"]


def test_a_signal_cancels_at_the_next_check(stop: StopSignal):
    watchdog, made = Beats(), list[int]()
    cancellation = Cancellation(stop, watchdog)
    with pytest.raises(Stopped), cancellation.independent_work():
        for item in range(5):
            cancellation.check_cancelled()
            made.append(item)
            if item == 1:
                os.kill(os.getpid(), signal.SIGUSR1)
    assert made == [0, 1]
    assert watchdog.seen[-1] == "pause"


def test_an_error_leaves_the_work_as_it_is(stop: StopSignal):
    watchdog = Beats()
    with pytest.raises(KeyError), Cancellation(stop, watchdog).independent_work():
        raise KeyError
    assert watchdog.seen == ["heartbeat", "pause"]
