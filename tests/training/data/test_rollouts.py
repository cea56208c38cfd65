"""Rollouts of any generator become a verifier's data; other training sets a generator's."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.training.data.preparing import QUESTION, config, content, jsonl, texts
from tests.training.data.real import real_data
from tests.training.data.test_sources import CODE, PROGRAM
from training.data import parts
from training.data.pack import Mode
from training.data.prepare import prepare
from training.data.show import show
from training.errors import DataError

LISTS = {"question": "prompt", "completion": "completions", "reward": "rewards"}
OTHER = "Bob has 2 pears and eats 1 of them. How many are left?"


def rollouts(folder: Path, *rows: dict[str, Any], **settings: Any) -> dict[str, Any]:
    source = {**jsonl(folder, *rows), "kind": "rollouts", "columns": LISTS, "form": "prose"}
    return {**source, **settings}


def modes(folder: Path) -> dict[str, Mode]:
    return {text: Mode(mode) for _, text, mode in texts(folder)}


def test_lists_of_rollouts_are_deduplicated_decontaminated_and_balanced(tmp_path: Path) -> None:
    benchmark = tmp_path / "test.jsonl"
    evaluated = "A train leaves its station every single morning with 5 sleepy people. How many?"
    benchmark.write_text(json.dumps({"question": evaluated, "answer": "#### 5"}))
    source = rollouts(
        tmp_path,
        {"prompt": QUESTION, "completions": ["7.", "So 7.", "7.", "8."], "rewards": [1, 1, 1, 0]},
        {"prompt": OTHER, "completions": ["1.", "One, 1."], "rewards": [1, 0.5]},
        {"prompt": evaluated, "completions": ["5."], "rewards": [1]},
        {"prompt": QUESTION, "completions": [" ", "9. " * 300], "rewards": [0, 0]},
        balance="question",
    )
    wanted = config(
        tmp_path / "data",
        source,
        decontaminate=[{"name": "it", "kind": "gsm8k", "path": str(benchmark)}],
    )
    facts = prepare(wanted)
    assert (facts["head"], facts["examples"], facts["right_examples"]) == ("verifier", 2, 1)
    assert facts["sources"][0]["rows_read"] == 9
    assert facts["sources"][0]["dropped"] == {
        "candidate: its question has only right or only wrong programs": 2,
        "overlaps a benchmark": 1,
        "completion is empty": 1,
        "longer than a sequence": 1,
        "duplicate program of a question": 1,
        "candidate: its question has more of this verdict than of the other": 1,
    }
    found = modes(tmp_path / "data")
    assert found.pop("8.") == Mode.WRONG and set(found.values()) == {Mode.RIGHT}
    console = Console(record=True, width=200)
    show(wanted, 2, seed=1, console=console)
    shown = console.export_text()
    assert "«8.<end>»" in shown and "supervised (wrong)" in shown


def test_prose_is_labelled_by_its_answer(tmp_path: Path) -> None:
    answers = [r"3 + 4 = \boxed{7}", r"Thus \boxed{8}", "It must be 7", r"\boxed{7.0}"]
    source = rollouts(
        tmp_path,
        {"prompt": QUESTION, "completions": answers, "answer": "3 + 4 = 7\n#### 7"},
        {"prompt": OTHER, "completions": ["1"], "answer": "x + 1"},
        columns={"question": "prompt", "completion": "completions", "gold": "answer"},
        extractor="boxed",
    )
    facts = prepare(config(tmp_path / "data", source))
    labels = [Mode.RIGHT, Mode.WRONG, Mode.WRONG, Mode.RIGHT]
    assert modes(tmp_path / "data") == dict(zip(answers, labels, strict=True))
    counted = facts["sources"][0]
    assert counted["wrong"] == {"answer is not gold": 1, "no answer found in the text": 1}
    assert counted["dropped"] == {"gold answer is no number": 1}
    page = (tmp_path / "data" / "filters.md").read_text()
    assert "| wrong: no answer found in the text | 1 |" in page and "It must be 7" in page


def test_programs_are_run_and_their_results_compared_with_gold(tmp_path: Path) -> None:
    wrong, fails = PROGRAM.replace("4", "5"), "    return 1 / 0"
    table = [
        {"prompt": QUESTION, "response": text, "gold": 7}
        for text in (CODE, wrong, fails, "def f(", CODE.replace("3 + 4", "4 + 3"))
    ]
    columns = {"question": "prompt", "completion": "response", "gold": "gold"}
    source = rollouts(tmp_path, *table, columns=columns, form="code")
    facts = prepare(config(tmp_path / "data", source))
    assert modes(tmp_path / "data") == {
        PROGRAM: Mode.RIGHT,
        PROGRAM.replace("3 + 4", "4 + 3"): Mode.RIGHT,
        wrong: Mode.WRONG,
        fails: Mode.WRONG,
    }
    counted = facts["sources"][0]
    assert counted["wrong"] == {"answer is not gold": 1, "program fails": 1}
    assert counted["dropped"] == {"code cannot be cut into question and program": 1}


def test_any_number_of_workers_writes_the_same_bytes(tmp_path: Path) -> None:
    table = [
        {
            "prompt": QUESTION.replace("3", str(number)),
            "completions": [f"{number} + 4 = {number + 4 + other}" for other in range(4)],
            "rewards": [1, 0, 0, 0],
        }
        for number in range(600)
    ]
    source = rollouts(tmp_path, *table, balance="question")
    for workers in (1, 2):
        facts = prepare(config(tmp_path / str(workers), source, num_workers=workers))
        assert (facts["examples"], facts["right_examples"]) == (1200, 600)
    assert content(tmp_path / "1") == content(tmp_path / "2")


def test_a_part_holds_as_many_completions_as_rows_of_other_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    write = parts.write

    def counting(path: Path, converted: parts.Converted, *, made_from: str) -> None:
        sizes.append(converted.head.num_rows)
        write(path, converted, made_from=made_from)

    monkeypatch.setattr(parts, "write", counting)
    row = {"prompt": QUESTION, "completions": [str(n) for n in range(256)], "rewards": [0] * 256}
    prepare(config(tmp_path / "data", rollouts(tmp_path, *[row] * 9)))
    assert sizes == [1024, 1024, 256]


@pytest.mark.parametrize("extractor", ["last_number", "hashes"])
def test_a_generator_s_wrong_answers_are_dropped(tmp_path: Path, extractor: str) -> None:
    table = [
        {"query": QUESTION, "response": "3 + 4\n#### 7", "gold": "7"},
        {"query": OTHER, "response": "2 - 1\n#### 2", "gold": "1"},
        {"query": f"{OTHER} And 1 more?", "response": "None", "gold": "1"},
    ]
    columns = {"question": "query", "completion": "response", "gold": "gold"}
    source = {**jsonl(tmp_path, *table), "columns": columns, "form": "prose"}
    facts = prepare(config(tmp_path / "data", {**source, "extractor": extractor}))
    assert modes(tmp_path / "data") == {"3 + 4\n#### 7": Mode.SUPERVISED}
    assert facts["sources"][0]["dropped"] == {
        "answer is not gold": 1,
        "no answer found in the text": 1,
    }


def test_a_generator_s_programs_are_compared_with_gold_too(tmp_path: Path) -> None:
    table = [{"question": QUESTION, "code": CODE, "gold": 7}]
    table += [{"question": OTHER, "code": CODE, "gold": 1}]
    source = {**jsonl(tmp_path, *table), "columns": {"completion": "code", "gold": "gold"}}
    facts = prepare(config(tmp_path / "data", source, run_programs=True))
    assert modes(tmp_path / "data") == {PROGRAM: Mode.SUPERVISED}
    assert facts["sources"][0]["dropped"] == {"answer is not gold": 1}


def test_an_empty_file_and_a_wrong_reward_end_prepare(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl is a file without rows"):
        prepare(config(tmp_path / "data", rollouts(tmp_path)))
    row = {"prompt": QUESTION, "completions": ["7", "8"], "rewards": [1, -1]}
    with pytest.raises(DataError, match=r"rows\.jsonl, line 1: columns\.reward = 'rewards' is -1"):
        prepare(config(tmp_path / "data", rollouts(tmp_path, row)))


def test_real_solutions_have_the_labels_that_are_published(tmp_path: Path) -> None:
    model = "175b_verification"
    source = {
        "kind": "rollouts",
        "path": str(real_data("gsm8k/example_model_solutions.jsonl")),
        "form": "prose",
        "num_examples": 200,
        "columns": {"completion": f"{model}.solution", "reward": f"{model}.is_correct"},
    }
    facts = prepare(config(tmp_path / "data", source, sequence_length=1024))
    rows = real_data("gsm8k/example_model_solutions.jsonl").read_text("utf-8").splitlines()[:200]
    right = sum(json.loads(row)[model]["is_correct"] for row in rows)
    assert (facts["examples"], facts["right_examples"]) == (200, right)
