# pyright: reportPrivateUsage=false
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from parallel.workers.pool import WorkerPool
from training.execution.executor import Limits
from training.stages import execute

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "def simple_math_problem():\n    return {}\n"


def run_execute(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "launch/execute.py", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_gives_every_line_back_with_its_result(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "code": PROGRAM.format(6 * 7), "gold": 42},
        {"id": 2, "code": PROGRAM.format(6), "gold": "1,234"},
        {"id": 3, "code": PROGRAM.format("1234.5 - 0.5"), "gold": "$1,234", "note": "é\ud800"},
        {"id": 4, "code": PROGRAM.format("1 / 0"), "gold": 0},
        {"id": 5, "code": "x = 7", "kind": "var:x"},
        {"id": 6, "code": "while True: pass", "kind": "stdout-last", "gold": None},
        {"id": 7, "code": "def f(:", "gold": 3.5},
    ]
    target = tmp_path / "out.jsonl"
    done = run_execute(
        write(tmp_path / "in.jsonl", rows), target, "--timeout-seconds", "0.2", "--num-workers", "2"
    )
    assert done.returncode == 0, done.stderr
    out = [json.loads(line) for line in target.read_text("utf-8").splitlines()]
    assert [{key: row[key] for key in given} for row, given in zip(out, rows, strict=True)] == rows
    assert [(row["status"], row["value"], row["verdict"], row["tier"]) for row in out] == [
        ("ok", 42.0, "right", "monty"),
        ("ok", 6.0, "wrong", "monty"),
        ("ok", 1234.0, "right", "monty"),
        ("error", None, "failed", "cpython"),
        ("ok", 7.0, None, "monty"),
        ("timeout", None, None, "cpython"),
        ("error", None, "failed", "none"),
    ]
    assert all(row["seconds"] >= 0.0 for row in out)
    assert "ZeroDivisionError" in out[3]["error"]
    assert "executing: 7/7 programs" in done.stdout and "s left" in done.stdout
    assert "7 programs in" in done.stderr and "right 2" in done.stderr


def test_reads_and_writes_gzip(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl.gz", tmp_path / "out.jsonl.gz"
    target.touch()  # as mktemp leaves it
    with gzip.open(source, "wt", encoding="utf-8") as stream:
        stream.write(json.dumps({"code": PROGRAM.format(5)}) + "\n\n")
    assert run_execute(source, target).returncode == 0
    with gzip.open(target, "rt", encoding="utf-8") as stream:
        assert [json.loads(line)["value"] for line in stream] == [5.0]


def test_a_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [{"code": PROGRAM.format(5)}])
    target, link = tmp_path / "notes.txt", tmp_path / "link"
    target.write_text("mine")
    link.symlink_to(tmp_path / "nowhere")
    before = source.read_bytes()
    for out in (target, source, link, Path(os.devnull)):
        for more in ([], ["--dry-run"]):
            done = run_execute(source, out, *more)
            assert done.returncode == 2 and done.stderr.startswith(f"execute.py: {out} is there")
            assert len(done.stderr.splitlines()) == 1
    assert target.read_text() == "mine" and source.read_bytes() == before
    assert link.is_symlink() and Path(os.devnull).is_char_device()


def test_nor_is_one_that_is_made_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "in.jsonl", [{"code": PROGRAM.format(5)}])
    target = tmp_path / "notes.txt"
    run = execute._Runner.__call__

    def run_meanwhile(self: Any, chunk: Any) -> Any:
        target.write_text("mine")
        return run(self, chunk)

    monkeypatch.setattr(execute._Runner, "__call__", run_meanwhile)
    with pytest.raises(FileExistsError, match="is there already"):
        execute.execute_file(source, target, limits=Limits(), pool=WorkerPool())
    assert target.read_text() == "mine" and sorted(tmp_path.iterdir()) == [source, target]


def test_an_empty_file_gives_an_empty_file(tmp_path: Path) -> None:
    done = run_execute(write(tmp_path / "in.jsonl", []), tmp_path / "out.jsonl")
    assert done.returncode == 0 and (tmp_path / "out.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"code": ', "not JSON"),
        ("[1]", "a JSON object is needed, this is a list"),
        ('{"program": "x"}', "no `code`"),
        ('{"code": 5}', "no `code`, or it is not text"),
        ('{"code": "x", "kind": "main"}', "set func:NAME, var:NAME or stdout-last"),
        ('{"code": "x", "gold": "many"}', "gold is 'many': a number is needed"),
        ('{"code": "x", "gold": true}', "gold is True"),
        ('{"code": "x", "gold": NaN}', "a finite number is needed"),
        ('{"code": "x", "gold": %s}' % ("7" * 400), "(400 characters): a finite number is needed"),
        (
            '{"code": "x", "gold": "%s"}' % ("7" * 400),
            "(402 characters): a finite number is needed",
        ),
        ('{"code": "x", "kind": ""}', "set func:NAME, var:NAME or stdout-last"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_bad_lines_are_named_and_nothing_is_touched(
    line: str, message: str, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(json.dumps({"code": "x"}) + "\n" + line + "\n")
    done = run_execute(source, target)
    assert done.returncode == 2
    assert f"{source}, line 2: " in done.stderr and message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_bad_files_end_in_one_message(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [{"code": "x"}])
    torn = tmp_path / "torn.jsonl.gz"
    torn.write_bytes(gzip.compress(source.read_bytes() * 1000)[:-20])
    binary = tmp_path / "binary.jsonl"
    binary.write_bytes(b"\xff\xfe")
    for words, message in (
        ([tmp_path / "missing.jsonl", tmp_path / "out"], "missing.jsonl: no such file"),
        ([torn, tmp_path / "out"], "torn.jsonl.gz"),
        ([binary, tmp_path / "out"], "binary.jsonl, line 1"),
        ([source, tmp_path], "is not a plain file"),
        ([source, source / "out"], "in.jsonl"),
    ):
        done = run_execute(*words)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr and "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()
    assert run_execute(source, tmp_path / "out", "--timeout-seconds", "0").returncode == 2


def test_does_without_torch() -> None:
    code = "import sys, launch.execute; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0
