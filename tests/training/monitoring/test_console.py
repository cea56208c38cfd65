"""The console log: its form, and which ranks write what."""

import logging
import re

import pytest

from parallel.ranks import Ranks
from training.monitoring import console


def _written(capsys: pytest.CaptureFixture[str], rank: int) -> list[str]:
    console.set_up(Ranks(rank=rank, world_size=4, local_rank=rank, launcher="test"))
    logging.getLogger("training.trainer").info("resuming")
    logging.getLogger("checkpoints.store").warning("step_3 is skipped")
    logging.getLogger("somebody.else").error("of a library")
    written = capsys.readouterr()
    assert not written.err
    return written.out.splitlines()


def test_the_main_rank_logs_info_with_time_rank_and_level(
    capsys: pytest.CaptureFixture[str],
) -> None:
    info, warning = _written(capsys, 0)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d rank 0 INFO resuming", info)
    assert warning.endswith(" rank 0 WARNING step_3 is skipped")


def test_other_ranks_log_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    (warning,) = _written(capsys, 3)
    assert warning.endswith(" rank 3 WARNING step_3 is skipped")


def test_other_ranks_log_info_when_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYGSM_LOG_ALL_RANKS", "1")
    assert len(_written(capsys, 3)) == 2


def test_setting_up_twice_writes_a_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    console.set_up(Ranks(rank=1, world_size=2, local_rank=1, launcher="test"))
    assert len(_written(capsys, 0)) == 2


def test_a_closed_output_ends_the_verb_as_print_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:
        raise BrokenPipeError

    console.set_up(Ranks(rank=0, world_size=1, local_rank=0, launcher="test"))
    monkeypatch.setattr("builtins.print", closed)
    with pytest.raises(BrokenPipeError):
        logging.getLogger("training").info("more")
