"""Progress: how many lines there are, with and without a terminal."""

import pytest

from training.monitoring.progress import Progress


def _lines(capsys: pytest.CaptureFixture[str], *, line_every: int, skipped: int = 0) -> list[str]:
    with Progress("training", total=10, unit="steps", line_every=line_every) as bar:
        bar.skip(skipped)
        for step in range(skipped, 10):
            bar.advance(1, note=f"loss {step + 1}")
    return [line for line in capsys.readouterr().err.splitlines() if "training:" in line]


@pytest.mark.parametrize(
    ("line_every", "steps"),
    [(1, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), (4, [4, 8, 10]), (20, [10]), (0, [10])],
)
def test_a_line_is_printed_every_so_many_steps(
    capsys: pytest.CaptureFixture[str], line_every: int, steps: list[int]
) -> None:
    lines = _lines(capsys, line_every=line_every)
    assert [line.rsplit("loss ", 1)[1] for line in lines] == [str(step) for step in steps]


def test_a_resumed_run_counts_from_its_first_step(capsys: pytest.CaptureFixture[str]) -> None:
    lines = _lines(capsys, line_every=4, skipped=5)
    assert [line.rsplit("loss ", 1)[1] for line in lines] == ["8", "10"]


def test_lines_stand_above_the_bar_of_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    lines = _lines(capsys, line_every=4)
    assert [f"{step}/10" in line for step, line in zip((4, 8, 10), lines, strict=True)] == [
        True
    ] * 3
