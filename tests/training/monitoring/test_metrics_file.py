import json
import math
from pathlib import Path

import torch

from tests.metrics import read_steps
from training.monitoring.metrics_file import NAME, MetricsFile, read_lines


def write(folder: Path, steps: range, *, resume_step: int = 0, value: float = 1.0) -> None:
    file = MetricsFile(folder, resume_step=resume_step)
    for step in steps:
        file.append({"step": step, "train/tokens": step * 10, "train/loss": value})
    file.close()


def test_a_resumed_run_has_each_step_once(tmp_path: Path) -> None:
    write(tmp_path, range(1, 8))
    write(tmp_path, range(6, 9), resume_step=5, value=2.0)
    lines = list(read_lines(tmp_path))
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert [line["train/loss"] for line in lines] == [1.0] * 5 + [2.0] * 3


def test_a_fresh_start_drops_an_attempt_without_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, range(1, 4))
    write(tmp_path, range(1, 3))
    assert [line["step"] for line in read_lines(tmp_path)] == [1, 2]


def test_torn_lines_are_passed_over_and_removed(tmp_path: Path) -> None:
    write(tmp_path, range(1, 4))
    path = tmp_path / NAME
    with path.open("ab") as stream:
        stream.write(b'\x00\x00\x00\n[1]\n{"train/loss": 1.0}\n{"step": 4, "train/lo')
    assert [line["step"] for line in read_lines(tmp_path)] == [1, 2, 3]
    write(tmp_path, range(4, 6), resume_step=9)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4, 5]
    assert [entry.name for entry in tmp_path.iterdir()] == [NAME]


def test_every_line_is_strict_json(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path, resume_step=0)
    values = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.1, "e": 3}
    file.append({"step": 1, **values, "f": torch.tensor(2.5).item()})
    file.sync()
    text = (tmp_path / NAME).read_text()
    file.close()
    line = json.loads(text, parse_constant=lambda name: 1 / 0)
    assert line == {"step": 1, "a": "nan", "b": "inf", "c": "-inf", "d": 0.1, "e": 3, "f": 2.5}
    assert math.isnan(float(line["a"])) and float(line["c"]) == -math.inf


def test_lines_of_a_step_merge_for_readers(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path, resume_step=0)
    file.append({"step": 1, "train/loss": 2.0})
    file.append({"step": 2, "train/loss": 1.0})
    file.append({"step": 1, "eval/demo/pass_at_1": 0.5})
    file.close()
    assert read_steps(tmp_path) == [
        {"step": 1, "train/loss": 2.0, "eval/demo/pass_at_1": 0.5},
        {"step": 2, "train/loss": 1.0},
    ]
    assert read_steps(tmp_path / "nowhere") == []
