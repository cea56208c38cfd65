"""Lives without progress come to an end; lives with progress do not."""

from pathlib import Path

import pytest

from training.lifecycle import attempts


def live(folder: Path, attempt: int, job: str = "7") -> None:
    attempts.start(folder, verb="train", job=job, attempt=attempt)


def test_three_lives_in_vain_and_no_fourth(tmp_path: Path) -> None:
    for attempt in range(3):
        live(tmp_path, attempt)
    with pytest.raises(attempts.NoProgress, match=r"job 7 has had 3 lives.*\(step 0\)"):
        live(tmp_path, 3)
    assert len(attempts.read(tmp_path)) == 3
    live(tmp_path, 0, job="8")  # submitted anew by somebody


def test_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    live(tmp_path, 0)
    with (tmp_path / attempts.LIVES).open("ab") as stream:
        stream.write(b'[]\n5\n{}\n{"job": "7"}\n\xff\xfe\n{"job": "7", "prog')
    assert [life["attempt"] for life in attempts.read(tmp_path)] == [0]
    live(tmp_path, 1)


def test_only_names_that_training_writes_are_steps(tmp_path: Path) -> None:
    for name in ("step_3", "step_007", "step_9.tmp"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    (tmp_path / "checkpoints" / "step_8").touch()
    assert attempts.saved_step(tmp_path) == 3


def test_a_checkpoint_counts_as_progress(tmp_path: Path) -> None:
    live(tmp_path, 0)
    live(tmp_path, 1)
    (tmp_path / "checkpoints" / "step_20").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step_40.tmp").mkdir()
    for attempt in (2, 3, 4):
        live(tmp_path, attempt)
    assert attempts.saved_step(tmp_path) == 20
    with pytest.raises(attempts.NoProgress, match="step 20"):
        live(tmp_path, 5)


def test_a_part_written_again_counts_as_progress(tmp_path: Path) -> None:
    part = tmp_path / "parts" / "gsm8k" / "part-00000.parquet"
    part.parent.mkdir(parents=True)
    part.touch()
    before = attempts.progress(tmp_path, "evaluate")
    part.write_text("scored")
    after = attempts.progress(tmp_path, "evaluate")
    assert before.startswith("1 parts") and before != after
