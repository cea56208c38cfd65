"""A mistake that one rank alone meets ends all ranks with that rank's message."""

from pathlib import Path

import pytest

from tests.bad_inputs.harness import run_verb

FAILING = "tests.bad_inputs.failing"


@pytest.mark.parametrize("rank", (0, 2))
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("setting", "the setting is wrong"),
        ("disk", "[Errno 28] No space left on device: 'weights.bin'"),
        # Ranks that work through shares of their own wait in no collective.
        ("own work", "the setting is wrong"),
    ],
)
def test_its_message_is_the_only_one(rank: int, kind: str, message: str, tmp_path: Path) -> None:
    ended = run_verb(FAILING, [str(rank), kind], 3, tmp_path)
    assert [code for code, _, _ in ended] == [2, 2, 2], ended
    which = f"rank {rank}: " if rank else ""
    assert [err for _, _, err in ended] == [f"failing.py: {which}{message}\n", "", ""]


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    ended = run_verb(FAILING, ["1", "bug"], 2, tmp_path)
    assert ended[1][0] == 1
    assert "ZeroDivisionError: a bug" in ended[1][2]
    assert ended[0][0] == 1
