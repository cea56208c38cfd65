"""Attempts without progress are not repeated; attempts with progress are."""

from pathlib import Path

import pytest

from training.lifecycle import attempts


def attempt(folder: Path, number: int, job: str = "7") -> None:
    attempts.record(folder, verb="train", job=job, attempt=number)


def test_a_fourth_attempt_without_progress_is_refused(tmp_path: Path) -> None:
    for number in range(3):
        attempt(tmp_path, number)
    with pytest.raises(attempts.NoProgress, match=r"job 7 has made 3 attempts.*\(step 0\)"):
        attempt(tmp_path, 3)
    assert len(attempts.read(tmp_path)) == 3
    attempt(tmp_path, 0, job="8")  # submitted again by somebody


def test_damaged_lines_are_skipped(tmp_path: Path) -> None:
    attempt(tmp_path, 0)
    with (tmp_path / attempts.ATTEMPTS).open("ab") as stream:
        stream.write(b'[]\n5\n{}\n{"job": "7"}\n\xff\xfe\n{"job": "7", "prog')
    assert [entry["attempt"] for entry in attempts.read(tmp_path)] == [0]
    attempt(tmp_path, 1)


def test_a_file_of_the_earlier_name_is_left_alone(tmp_path: Path) -> None:
    attempt(tmp_path, 0)
    (tmp_path / attempts.ATTEMPTS).rename(tmp_path / "lives.jsonl")
    before = (tmp_path / "lives.jsonl").read_bytes()
    assert attempts.read(tmp_path) == []
    attempt(tmp_path, 1)
    assert (tmp_path / "lives.jsonl").read_bytes() == before
    assert [entry["attempt"] for entry in attempts.read(tmp_path)] == [1]


def test_a_checkpoint_counts_as_progress(tmp_path: Path) -> None:
    attempt(tmp_path, 0)
    attempt(tmp_path, 1)
    (tmp_path / "checkpoints" / "step_20").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step_40.tmp").mkdir()
    for number in (2, 3, 4):
        attempt(tmp_path, number)
    assert attempts.resume_point(tmp_path, "train") == "step 20"
    with pytest.raises(attempts.NoProgress, match="step 20"):
        attempt(tmp_path, 5)


def test_a_part_written_again_counts_as_progress(tmp_path: Path) -> None:
    part = tmp_path / "parts" / "gsm8k" / "part-00000.parquet"
    part.parent.mkdir(parents=True)
    part.touch()
    before = attempts.resume_point(tmp_path, "evaluate")
    part.write_text("scored")
    after = attempts.resume_point(tmp_path, "evaluate")
    assert before.startswith("1 parts") and before != after
