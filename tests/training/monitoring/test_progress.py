"""Progress: how many lines there are, with and without a terminal."""

import logging

import pytest

from training.monitoring.progress import Progress


def _lines(caplog: pytest.LogCaptureFixture, **options: bool) -> list[str]:
    caplog.set_level(logging.INFO)
    with Progress("training", total=10, unit="steps", **options) as bar:
        bar.skip(5)
        for _ in range(5):
            bar.advance(1, note="loss 2")
    return caplog.messages


def test_the_end_is_logged_without_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    (line,) = _lines(caplog)
    assert line.startswith("training: 10/10 steps, ") and line.endswith(" s left loss 2")


@pytest.mark.parametrize("option", ["shown", "logs_lines"])
def test_nothing_is_logged_where_it_is_not_wanted(
    caplog: pytest.LogCaptureFixture, option: str
) -> None:
    assert _lines(caplog, **{option: False}) == []


def test_a_terminal_has_a_bar_and_no_lines(
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert _lines(caplog) == []
    written = capsys.readouterr()
    assert "10/10" in written.err and not written.out
