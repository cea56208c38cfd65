"""`python -m tests.bench` at toy size: every part has rows, with or without the peers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import parts
from tests.bench.__main__ import MODULES
from tests.bench.gpu import table
from tests.bench.gpu.setting import ROOT, installed
from tests.bench.sizes import SHORT, TOY, Loader, sizes_of
from tests.bench.turns import Turn, in_turns, loss_difference, speed


def bench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.bench", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=570,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_every_part_has_rows_and_its_checks_pass(tmp_path: Path) -> None:
    run = bench("--toy", "--folder", tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    result = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert result["toy"] and result["date"] and result["machine"]["cores"] == os.cpu_count()
    assert "--toy" in result["command"] and result["versions"]["torch"]
    assert list(result["parts"]) == list(MODULES)
    page = (tmp_path / "bench.md").read_text(encoding="utf-8")
    for name, part in result["parts"].items():
        assert part["status"] == "ok", (name, part)
        assert part["sizes"] and f"**{name}** (ok" in page
    training = {row["way"]: row for row in result["parts"]["training"]["rows"]}
    assert training["ours, 4 sequences at a time"]["ours is faster by"] == [1.0]
    assert training["ours, 2 sequences at a time"]["loss difference"] < 1e-5
    for package, row in (
        ("accelerate", training["Trainer, flattened"]),
        ("trl", training["TRL, packed"]),
    ):
        if installed(package):
            assert row["passed"] and row["tokens/s"]
        else:
            assert row["left out"] == f"{package} is not installed"
    checked = [row["passed"] for row in result["parts"]["ranks"]["rows"]]
    assert len(checked) == 8 and all(checked)
    assert bench("--show", tmp_path / "bench.json").stdout.strip() == page.strip()


def test_what_is_wrong_on_the_command_line_is_named(tmp_path: Path) -> None:
    for arguments, message in (
        (("--only", "trian"), "'trian' is none of training"),
        (("training.turn=3",), "training has examples, turns"),
        (("turns=3",), "'turns=3' is not part.name=integer"),
        (("loader.rounds=few",), "'loader.rounds=few' is not part.name=integer"),
    ):
        run = bench("--folder", tmp_path, *arguments)
        assert run.returncode == 2 and message in run.stderr, run.stderr
    assert not list(tmp_path.iterdir())


def test_sizes_of_a_part() -> None:
    assert list(MODULES) == list(SHORT) == list(TOY)
    overrides = ["loader.rounds=7", "training.turns=2"]
    assert sizes_of("loader", toy=False, overrides=overrides) == Loader(rounds=7)


def test_a_part_that_dies_keeps_its_rows(tmp_path: Path) -> None:
    program = tmp_path / "part.py"
    program.write_text(
        f"import os, sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom pathlib import Path\n"
        "from tests.bench.gpu.record import Record\nrecord = Record(Path(sys.argv[-1]))\n"
        "record.row(a=1)\nprint('the end', flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    part = parts.in_a_process([str(program)], limit_seconds=60)
    assert part["status"] == "error" and part["rows"] == [{"a": 1}]
    assert "exit code -9" in part["error"] and "the end" in part["error"]


def turn(seconds: float, losses: list[float]) -> Turn:
    return Turn(seconds=seconds, cpu_seconds=seconds / 2, tokens=100, losses=losses)


def test_a_way_that_fails_does_not_end_the_others() -> None:
    def fails() -> Turn:
        raise RuntimeError("no")

    calls: list[str] = []

    def works() -> Turn:
        calls.append("works")
        return turn(1.0, [2.0])

    found, failed = in_turns({"fails": fails, "works": works}, 2)
    assert list(found) == ["works"] and len(found["works"]) == 2 and len(calls) == 3
    assert str(failed["fails"]) == "no"


def test_what_is_compared() -> None:
    ours, theirs = [turn(1.0, [4.0, 2.0])], [turn(3.0, [4.0, 2.5])]
    columns = speed(theirs, ours)
    assert columns["tokens/s"] == [100 / 3] and columns["ours is faster by"] == [3.0]
    assert columns["in CPU seconds"] == [3.0]
    assert loss_difference(theirs, ours) == 0.25


def test_repeats_are_shown_with_their_spread() -> None:
    rows = [{"way": "a", "s": [3.0, 1.0, 2.0]}, {"way": "b", "s": [2.5]}]
    assert table.markdown(rows).splitlines()[2:] == ["| a | 2 [1, 3] |", "| b | 2.5 |"]
