"""Sources whose columns the config names: what rows give, and what is wrong with them."""

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from tests.training.data.test_sources import CODE, PROGRAM, source
from training.config import SourceConfig
from training.data import mapped
from training.data.chunks import Row
from training.data.sources import chunks, example_of, num_rows, question_texts, rows
from training.errors import DataError

QUESTION = "Ann has 3 apples and buys 4. How many?"
LISTS = {"question": "prompt", "completion": "completions", "reward": "rewards"}


def jsonl(path: Path, *table: Mapping[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in table))
    return path


def rollouts(path: Path | str, columns: dict[str, str] = LISTS, **settings: Any) -> SourceConfig:
    return source("rollouts", path, columns=columns, **{"form": "prose", **settings})


def read(config: SourceConfig) -> list[tuple[str, str, bool | None]]:
    found = [example_of(config, row) for row in rows(config)]
    return [(each.example.question, each.example.program, each.right) for each in found]


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
def test_a_list_of_completions_gives_one_example_each(tmp_path: Path, ending: str) -> None:
    table = [
        {"prompt": QUESTION, "completions": ["It is 7.", "It is 8."], "rewards": [1.0, 0.0]},
        {"prompt": "How many are 2 and 3?", "completions": ["5"], "rewards": [0.5]},
    ]
    path = tmp_path / f"a.{ending}"
    if ending == "parquet":
        parquet.write_table(pa.Table.from_pylist([{**row, "other": 1} for row in table]), path)
    elif ending == "json":
        path.write_text(json.dumps(table))
    else:
        jsonl(path, *table)
    config = rollouts(path)
    assert read(config) == [
        (QUESTION, "It is 7.", True),
        (QUESTION, "It is 8.", False),
        ("How many are 2 and 3?", "5", True),
    ]
    assert num_rows(config) == 2
    assert len(read(rollouts(path, num_examples=1))) == 2
    strict = rollouts(path, reward_threshold=0.6)
    assert [right for _, _, right in read(strict)] == [True, False, False]


def test_a_row_for_each_completion_with_other_columns(tmp_path: Path) -> None:
    columns = {"question": "query", "completion": "out.text", "reward": "out.score"}
    scored: list[dict[str, Any]] = [{"text": "7", "score": True}, {"text": "8", "score": 0}]
    table = [{"query": QUESTION, "out": each} for each in scored]
    wanted = [(QUESTION, "7", True), (QUESTION, "8", False)]
    assert read(rollouts(jsonl(tmp_path / "a.jsonl", *table), columns)) == wanted
    path = tmp_path / "a.parquet"
    for each in scored:
        each["score"] = float(each["score"])  # a column has one type
    parquet.write_table(pa.Table.from_pylist(table), path)
    assert read(rollouts(path, columns)) == wanted


def test_a_prompt_of_chat_messages_is_the_last_of_the_user(tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "Think."},
        {"role": "user", "content": f"{QUESTION}\n"},
    ]
    row = {"prompt": messages, "completions": ["7"], "rewards": [1]}
    assert read(rollouts(jsonl(tmp_path / "a.jsonl", row))) == [(QUESTION, "7", True)]
    path = jsonl(tmp_path / "b.jsonl", {**row, "prompt": messages[:1]})
    with pytest.raises(DataError, match=r"b\.jsonl, line 1: the list of messages holds none with"):
        read(rollouts(path))


def test_rewards_of_parquet_may_be_decimals(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = {"prompt": [QUESTION], "completions": [["7"]], "rewards": [[Decimal("0.75")]]}
    parquet.write_table(pa.table(table), path)
    assert read(rollouts(path)) == [(QUESTION, "7", True)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": [1, -1]}, r"rewards' is -1: a reward is a number from 0 to 1.*Scale the"),
        ({"rewards": [1, 1.5]}, "rewards' is 1.5: a reward is"),
        ({"rewards": [1, "yes"]}, "rewards' is 'yes': a reward is"),
        ({"rewards": [1, float("nan")]}, "rewards' is nan: a reward is"),
        ({"rewards": [1]}, "there are 2 completions and 1 values of reward"),
        ({"rewards": 1}, "reward is a number beside a list of 2 completions"),
        ({"rewards": [1, None]}, "there is no reward: columns.reward = 'rewards'"),
        ({"completions": ["7", 8]}, "entry 1 of columns.completion = 'completions' is a number"),
        ({"completions": ["7", None]}, "entry 1 of columns.completion = 'completions' is null"),
        ({"completions": {"a": 1}}, "columns.completion = 'completions' is an object: a text"),
        ({"prompt": 7}, "columns.question = 'prompt' is a number: a text is needed"),
        ({"prompt": None}, "columns.question = 'prompt' is null: a text is needed"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    whole = {"prompt": QUESTION, "completions": ["7", "8"], "rewards": [1, 0]}
    path = jsonl(tmp_path / "a.jsonl", whole, {**whole, **changes})
    with pytest.raises(DataError, match=rf"a\.jsonl, line 2: .*{message}"):
        read(rollouts(path))


def test_damaged_rows_are_skipped_where_asked_for_but_never_rewards(tmp_path: Path) -> None:
    whole = {"prompt": QUESTION, "completions": ["7", "8"], "rewards": [1, 0]}
    path = jsonl(tmp_path / "a.jsonl", {**whole, "rewards": [1]}, whole)
    skipping = rollouts(path, damaged="skip")
    damaged, *found = rows(skipping)
    assert damaged.reason == "row is damaged" and len(found) == 2
    jsonl(path, {**whole, "rewards": [1, -1]})
    with pytest.raises(DataError, match="line 1: .* is -1"):
        list(rows(skipping))


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_missing_column_and_an_empty_file_are_named(tmp_path: Path, ending: str) -> None:
    path, row = tmp_path / f"a.{ending}", {"prompt": QUESTION, "answers": ["7"], "rewards": [1]}
    if ending == "parquet":
        parquet.write_table(pa.Table.from_pylist([row]), path)
    else:
        jsonl(path, row)
    with pytest.raises(DataError, match=r"no (column )?completions.*columns are prompt, answers"):
        list(rows(rollouts(path)))
    if ending == "parquet":
        parquet.write_table(pa.Table.from_pylist([row]).slice(0, 0), path)
    else:
        path.write_text("")
    columns = {**LISTS, "completion": "answers"}
    with pytest.raises(DataError, match=rf"a\.{ending} is a (Parquet )?file without rows"):
        list(rows(rollouts(path, columns)))


def test_programs_are_bodies_or_whole_functions(tmp_path: Path) -> None:
    row = {"prompt": QUESTION, "completions": [CODE, f"{PROGRAM}\n"], "rewards": [1, 0]}
    config = rollouts(jsonl(tmp_path / "a.jsonl", row), form="code")
    function, body = (example_of(config, found) for found in rows(config))
    assert function.raw is not None and (function.raw.code, function.raw.question) == (
        CODE,
        QUESTION,
    )
    assert body.raw is None and body.example.program == PROGRAM
    assert (function.right, body.right) == (True, False)


def test_chunks_have_about_as_many_completions_as_other_chunks_rows(tmp_path: Path) -> None:
    row = {"prompt": QUESTION, "completions": ["7"] * 4, "rewards": [1] * 4}
    config = rollouts(jsonl(tmp_path / "a.jsonl", *[row] * 9))
    assert [len(chunk) for chunk in chunks(config, 16)] == [4, 4, 1]


@pytest.mark.parametrize(
    ("gold", "number"),
    [
        (72, 72),
        ("1,234", 1234),
        ("48/2 = 24\n#### 72", 72),
        (r"Thus \boxed{72}", 72),
        ("$5", 5),
        ("x + 1", None),
        (r"\frac{1}{2}", None),
        (True, None),
        (float("nan"), None),
    ],
)
def test_a_gold_answer_is_a_number_or_states_one(gold: object, number: float | None) -> None:
    assert mapped.gold_of(gold) == number


OPEN_MATH: Row = {
    "problem": QUESTION,
    "generated_solution": r"3 + 4 = 7, so \boxed{7}",
    "expected_answer": "7",
    "problem_source": "gsm8k",
}
META_MATH: Row = {"query": QUESTION, "response": "3 + 4 = 7\n#### 7", "type": "GSM_Rephrased"}
GSM8K_AUG: Row = {"question": QUESTION, "steps": ["<<3+4=7>>", "<<7*1=7>>"], "answer": "7"}


@pytest.mark.parametrize(
    ("row", "columns", "text", "gold"),
    [
        (
            OPEN_MATH,
            {"question": "problem", "completion": "generated_solution", "gold": "expected_answer"},
            OPEN_MATH["generated_solution"],
            7,
        ),
        (
            META_MATH,
            {"question": "query", "completion": "response"},
            META_MATH["response"],
            None,
        ),
        (
            GSM8K_AUG,
            {"completion": "steps", "gold": "answer"},
            "<<3+4=7>>\n<<7*1=7>>",
            7,
        ),
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_training_sets_with_other_columns(
    tmp_path: Path, kind: str, row: Row, columns: dict[str, str], text: str, gold: float | None
) -> None:
    path = tmp_path / f"train.{kind}"
    if kind == "parquet":
        parquet.write_table(pa.Table.from_pylist([dict(row)]), path)
    else:
        jsonl(path, row)
    config = source(kind, tmp_path, columns=columns, form="prose")
    (labelled,) = (example_of(config, found) for found in rows(config))
    assert (labelled.example.question, labelled.example.program) == (QUESTION, text)
    assert (labelled.right, labelled.gold) == (None, gold)
    assert list(question_texts(config, 10)) == [QUESTION]
