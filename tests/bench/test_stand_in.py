"""The stand-in for TinyGSM: its form, its fractions, and that every writer writes the same."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.bench.stand_in import damage
from tests.bench.stand_in.measure import measured
from tests.bench.stand_in.numbers import numbers_of
from tests.bench.stand_in.rows import Row, Writer
from tests.bench.stand_in.shards import Shards, write
from tests.bench.stand_in.template import Template, template_of
from tests.ranks import ROOT
from tests.training.data.real import real_data
from training.data.problems.words import Draw
from training.execution import programs
from training.execution.sandbox.cutting import cut

_MARKED = (
    (
        "Mary bought 12 apples in April and half as many apples in May. How many apples did she "
        "buy in total?",
        "In May it was 12/2 = <<12/2=6>>6 apples.\n"
        "Mary bought 12+6 = <<12+6=18>>18 apples in total.\n#### 18",
    ),
    (
        "Tom has 20 marbles. He gives 5 marbles to each of three friends. How many marbles are "
        "left?",
        "He gives away 5*3 = <<5*3=15>>15 marbles.\nThere are 20-15 = <<20-15=5>>5 marbles left."
        "\n#### 5",
    ),
    (
        "A store sells 40 shirts on Monday. Each shirt costs $15. They are on sale with a 20% "
        "discount. How much money do they make?",
        "The discount is 20/100*15 = $<<20/100*15=3>>3.\nA shirt costs 15-3 = $<<15-3=12>>12.\n"
        "They make 40*12 = $<<40*12=480>>480.\n#### 480",
    ),
    (
        "Anna reads 30 pages every day. Her brother reads 10 pages more every day. How many pages "
        "do they read in 4 weeks?",
        "He reads 30+10 = <<30+10=40>>40 pages.\n"
        "Together it is 40+30 = <<40+30=70>>70 pages a day.\n"
        "There are 4*7 = <<4*7=28>>28 days.\n"
        "They read 70*28 = <<70*28=1960>>1960 pages.\n#### 1960",
    ),
)


def gsm8k_train(folder: Path) -> Path:
    path = folder / "train.jsonl"
    rows = (json.dumps({"question": q, "answer": a}) + "\n" for q, a in _MARKED)
    path.write_text("".join(rows))
    return path


@cache
def _written(path: Path) -> tuple[Row, ...]:
    writer = Writer(path, seed=3)
    return tuple(writer.row(index) for index in range(6000))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> tuple[Row, ...]:
    return _written(gsm8k_train(tmp_path_factory.mktemp("gsm8k")))


def _template(text: str) -> Template:
    question, answer = next(pair for pair in _MARKED if text in pair[0])
    from training.data import gsm8k

    found = template_of(question, gsm8k.program_of(question, answer), is_varied=True)
    assert found is not None
    return found


def _run(code: str) -> Any:
    space: dict[str, Any] = {}
    exec(code, space)
    return space["simple_math_problem"]()


def test_every_whole_row_splits_and_computes_what_is_known_of_it(rows: tuple[Row, ...]) -> None:
    whole = [row for row in rows if not row.form]
    for row in whole:
        parts = cut(row.code)
        question, body = parts.question, parts.program
        if "\\$" not in row.code and not row.is_repeated:
            assert question == row.question
        assert math.isclose(_run(row.code), row.value, rel_tol=1e-9)
        assert math.isclose(_run(programs.source(question, body)), row.value, rel_tol=1e-9)
        assert row.answer > 0
    assert len(whole) > 0.95 * len(rows)


def test_the_fractions_are_those_stated(rows: tuple[Row, ...]) -> None:
    def fraction(is_so: Callable[[Row], object]) -> float:
        return sum(map(bool, map(is_so, rows))) / len(rows)

    assert 0.22 < fraction(lambda row: row.is_wrong) < 0.28
    assert abs(fraction(lambda row: row.form) - damage.TOTAL) < 0.012
    assert 0.02 < fraction(lambda row: "'''" in row.code) < 0.08
    assert 0.002 < fraction(lambda row: "\\$" in row.code) < 0.05
    assert fraction(lambda row: " / " in row.code) > 3 * fraction(lambda row: " // " in row.code)
    assert 0.84 < len({row.question for row in rows}) / len(rows) < 0.97
    assert {row.form for row in rows} >= {"fenced", "no docstring", "cut off", "prints the result"}


def test_a_question_is_english_with_sensible_numbers(rows: tuple[Row, ...]) -> None:
    for row in rows:
        assert "{" not in row.question and "  " not in row.question.replace(".  ", ". ")
        assert not re.search(
            r"\b(?:a [aeio]\w*s?|an [bcdfgjklmnpqrstvwz]\w*)\b(?= |s\b)", row.question
        )
        if not row.form and not row.is_repeated:
            assert (
                row.question[-1] in "?." and row.question[0].isupper() | row.question[0].isdigit()
            )


def test_a_row_depends_on_seed_and_number_alone(tmp_path: Path, rows: tuple[Row, ...]) -> None:
    path = gsm8k_train(tmp_path)
    writer = Writer(path, seed=3)
    for index in (5999, 17, 4096, 2500, 17):
        assert writer.row(index) == rows[index]
    assert Writer(path, seed=4).row(17) != rows[17]


def test_drawn_numbers_keep_the_story_sensible() -> None:
    template = _template("marbles")
    draw = Draw(1)
    answers: set[float] = set()
    for _ in range(300):
        (marbles, each, friends), answer = template.draw_numbers(draw)
        assert answer == marbles - each * friends > 0 and 3 <= friends <= 12
        answers.add(answer)
    assert len(answers) > 20
    half = _template("half as many")
    assert all(half.draw_numbers(draw)[0][0] % 2 == 0 for _ in range(50))


def test_numbers_that_may_come_from_a_word_stay() -> None:
    weeks = numbers_of("She reads 30 pages for 7 days. How many in 2 weeks?", [30, 7, 2])
    assert [number.value for number in weeks] == [30, 2]
    clock = numbers_of("At 8 p.m. in Room 12 there were 9 boys, since 1998.", [8, 12, 9, 1998])
    assert [number.value for number in clock] == [9]
    percent = numbers_of("He pays 20% of $50.", [20, 50])[0]
    assert max(percent.options) == 95 and {value % 5 for value in percent.options} == {0}


def test_names_and_things_change_together() -> None:
    template = _template("apples")
    draw = Draw(5)
    found, answer = template.draw_numbers(draw)
    texts = template.draw_texts(draw, found)
    question = template.question.format(*texts, aside="")
    lines = "\n".join(template.body.named).format(*texts)
    thing = re.search(r"\d+ (\w+) in April", question)
    assert thing and thing[1] != "apples" and thing[1] in lines and "apples" not in question + lines
    assert question.count(thing[1]) == 3 and "Mary" not in question and answer > 0


def test_any_number_of_workers_writes_the_same_shards(tmp_path: Path) -> None:
    path = gsm8k_train(tmp_path)
    one = Shards(tmp_path / "one", 2500, 3, seed=1)
    two = Shards(tmp_path / "two", 2500, 3, seed=1)
    assert write(one, path, num_workers=1) == [0, 1, 2] == write(two, path, num_workers=2)
    assert one.path(1).name == "train-00001-of-00003.parquet"
    assert pq.read_table(one.path(0)).column_names == ["question", "code"]
    for shard in range(3):
        assert one.path(shard).read_bytes() == two.path(shard).read_bytes()
    assert one.counts()["rows"] == 2500 == measured(one.folder)["rows"]
    assert write(one, path, num_workers=1) == []
    one.path(2).unlink()
    assert write(one, path, num_workers=1) == [2]
    assert one.path(2).read_bytes() == two.path(2).read_bytes()
    other = Shards(one.folder, 2500, 3, seed=2)
    assert not any(other.is_written(shard) for shard in range(3))


def test_a_killed_writer_continues_with_the_same_bytes(tmp_path: Path) -> None:
    path = gsm8k_train(tmp_path)
    command = [sys.executable, "-m", "tests.bench.stand_in", "--rows", "9000", "--shards", "6"]
    command += ["--workers", "1", "--gsm8k", str(path)]

    def start(folder: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen([*command, str(tmp_path / folder)], cwd=ROOT, env=environment)

    killed = start("killed")
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("*-00001-*.parquet")):
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert len(list((tmp_path / "killed").glob("*.parquet"))) < 6
    assert start("killed").wait(timeout=240) == 0 == start("whole").wait(timeout=240)
    names = sorted(path.name for path in (tmp_path / "whole").glob("*.parquet"))
    assert len(names) == 6
    for name in names:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_real_questions_give_rows_that_compute(tmp_path: Path) -> None:
    lines = real_data("gsm8k/train.jsonl").read_text(encoding="utf-8").splitlines()[:400]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    writer = Writer(path, seed=1)
    rows = [writer.row(index) for index in range(2000)]
    for row in rows:
        if not row.form:
            assert math.isclose(_run(row.code), row.value, rel_tol=1e-9), row.code
    assert 0.2 < sum(row.is_wrong for row in rows) / len(rows) < 0.3
    assert len({row.question for row in rows}) > 0.9 * len(rows)
