import ast
import json
from pathlib import Path
from typing import Any

import pytest

from tests.training.data.real import real_data
from training.config import BenchmarkConfig
from training.data.benchmarks import questions
from training.data.corrections import SHIPPED, path_of, question_key, read, refuse_unmatched
from training.data.gsm8k import gold_of
from training.errors import DataError
from training.execution.numbers import same_number

KEY = question_key("How many?")


def write(folder: Path, *lines: dict[str, Any]) -> str:
    path = folder / "corrections.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_a_file_names_questions_by_their_text(tmp_path: Path) -> None:
    other = question_key("Why?")
    removed = {"question_sha256": other, "gold": "removed", "source": "a paper", "why": "vague"}
    found = read(
        write(tmp_path, {"question_sha256": KEY, "gold": "1,200", "source": "me"}, removed)
    )

    assert found[question_key(" How many?\n")].gold == 1200
    assert found[other].gold is None and found[other].source == "a paper"
    assert read("") == {}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"question_sha256": KEY, "gold": 1}, "correction 1 has no source"),
        ({"question_sha256": "ab", "gold": 1, "source": "me"}, '"ab": 64 hex digits are needed'),
        ({"gold": 1, "source": "me"}, "question_sha256 is null"),
        (
            {"question_sha256": KEY, "gold": "many", "source": "me"},
            "gold is 'many': a number is needed, or 'removed'",
        ),
        ({"question": "How many?", "gold": 1, "source": "me"}, "has the key 'question': it may"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, line))


def test_missing_empty_and_repeated_corrections_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"evaluation\.corrections = .*no such file"):
        read(str(tmp_path / "nothing.jsonl"))
    with pytest.raises(DataError, match="is no file: name one, or 'shipped'"):
        read(str(tmp_path))
    with pytest.raises(DataError, match="holds no correction"):
        read(write(tmp_path))
    line = {"question_sha256": KEY, "gold": 1, "source": "me"}
    with pytest.raises(DataError, match="correction 2 corrects the same question"):
        read(write(tmp_path, line, line))


def test_corrections_of_other_questions_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text('{"question": "Why?", "answer": "#### 1"}\n')
    config = BenchmarkConfig(name="it", kind="gsm8k", path=str(tmp_path))
    with pytest.raises(DataError, match="corrects 1 questions, none of which is evaluated"):
        refuse_unmatched(read(SHIPPED), questions(config))
    refuse_unmatched({}, questions(config))


def test_each_shipped_correction_follows_from_the_solution_in_gsm8k_itself() -> None:
    """The last calculation of the solution gives the corrected gold, and not the published one."""
    rows = [json.loads(line) for line in real_data("gsm8k/test.jsonl").read_text().splitlines()]
    by_key = {question_key(row["question"]): row["answer"] for row in rows}
    lines = path_of(SHIPPED).read_text().splitlines()

    corrections = read(SHIPPED)
    assert len(corrections) == len(lines) > 0
    for key, correction in corrections.items():
        answer = by_key[key]
        expression, value = answer.rpartition("<<")[2].partition(">>")[0].split("=")
        computed = eval(compile(ast.parse(expression, mode="eval"), "", "eval"), {})
        assert correction.gold is not None and same_number(computed, correction.gold)
        assert same_number(float(value), correction.gold)
        assert not same_number(gold_of(answer), correction.gold)
