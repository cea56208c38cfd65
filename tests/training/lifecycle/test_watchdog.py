"""Watchdog: which silences raise an alert, and how often."""

import time

import pytest

from parallel.ranks import Ranks
from training.lifecycle.watchdog import Watchdog

SECONDS = 0.5
SILENT = (
    "no step, batch or checkpoint file for {:g} minutes on rank {}; "
    "its log holds the stacks of its threads"
)


class Words(Ranks):
    """Ranks of which some have reported that they hang, and nothing is connected."""

    said: set[str]

    def set_flag(self, flag: str) -> None:
        self.said.add(flag)

    def flag_is_set(self, flag: str) -> bool:
        return flag in self.said


def words(rank: int, *said: str) -> Words:
    ranks = Words(rank=rank, world_size=3, local_rank=0, launcher="python")
    object.__setattr__(ranks, "said", set(said))
    return ranks


class Alerts(list[str]):
    def __call__(self, title: str, text: str) -> None:
        assert title == "the run hangs"
        self.append(text)


def silence_of(rank: int) -> str:
    return SILENT.format(SECONDS / 60, rank)


def wait_for(alerts: Alerts, number: int) -> None:
    deadline = time.monotonic() + 60
    while len(alerts) < number:
        assert time.monotonic() < deadline
        time.sleep(SECONDS / 50)


def test_silence_is_reported_once_until_something_moves(capfd: pytest.CaptureFixture[str]) -> None:
    alerts = Alerts()
    with Watchdog(words(0), minutes=SECONDS / 60, alert=alerts) as watchdog:
        wait_for(alerts, 1)
        time.sleep(3 * SECONDS)
        assert alerts == [silence_of(0)]
        watchdog.heartbeat()
        wait_for(alerts, 2)
        watchdog.pause()
        time.sleep(3 * SECONDS)
    assert alerts == [silence_of(0)] * 2
    written = capfd.readouterr().err
    assert written.count("hang: no step") == 2 and "test_watchdog.py" in written


def test_another_ranks_hang_is_reported_once_by_the_first() -> None:
    alerts = Alerts()
    with Watchdog(words(0, "rank 2 hangs"), minutes=SECONDS / 60, alert=alerts) as watchdog:
        watchdog.pause()
        wait_for(alerts, 1)
        time.sleep(3 * SECONDS)
    assert alerts == [silence_of(2)]


def test_ranks_that_hang_together_are_reported_once() -> None:
    alerts = Alerts()
    ranks = words(0)
    with Watchdog(ranks, minutes=SECONDS / 60, alert=alerts):
        time.sleep(0.7 * SECONDS)
        ranks.said.update(("rank 1 hangs", "rank 2 hangs"))
        time.sleep(3 * SECONDS)
    assert alerts == [silence_of(0)]


def test_another_rank_writes_its_stacks_and_notifies_the_first(
    capfd: pytest.CaptureFixture[str],
) -> None:
    ranks, alerts = words(2), Alerts()
    with Watchdog(ranks, minutes=SECONDS / 60, alert=alerts):
        deadline = time.monotonic() + 60
        while not ranks.said:
            assert time.monotonic() < deadline
            time.sleep(SECONDS / 50)
    assert ranks.said == {"rank 2 hangs"} and not alerts
    written = capfd.readouterr().err
    assert "on rank 2; the stacks of its threads" in written and "test_watchdog.py" in written


def test_nothing_is_watched_for_no_minutes() -> None:
    alerts = Alerts()
    with Watchdog(words(0, "rank 1 hangs"), minutes=0, alert=alerts):
        time.sleep(SECONDS)
    assert not alerts
