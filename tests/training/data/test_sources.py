import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from tests.training.data.real import real_data
from training.config import SourceConfig
from training.data import candidates
from training.data.sources import (
    DroppedError,
    chunks,
    complete,
    example_of,
    examples,
    num_rows,
    refuse_damaged,
    rows,
)
from training.errors import DataError
from training.execution import programs
from training.execution.executor import Cutter
from training.execution.sandbox.cutting import cut
from training.records import Candidate

CODE = '''def simple_math_problem() -> int:
    """
    Ann has 3 apples and buys 4. How many?
    """
    apples = 3 + 4
    result = apples
    return result
'''
PROGRAM = "    apples = 3 + 4\n    result = apples\n    return result"


def source(kind: str, path: Path | str = "", **settings: Any) -> SourceConfig:
    return SourceConfig.model_validate({"kind": kind, "path": str(path), **settings})


def parquet_file(path: Path, table: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(table), path, row_group_size=2)


def test_parquet_shards_in_order_of_their_names(tmp_path: Path) -> None:
    for shard in (1, 0):
        table = [{"question": f"Question {shard}{number}?", "code": CODE} for number in range(3)]
        parquet_file(tmp_path / "data" / f"train-{shard:05d}-of-00002.parquet", table)
    found = list(examples(source("parquet", tmp_path)))
    assert [example.question for example in found] == [
        f"Question {shard}{number}?" for shard in (0, 1) for number in range(3)
    ]
    assert {example.program for example in found} == {PROGRAM}
    assert num_rows(source("parquet", tmp_path)) == 6
    assert num_rows(source("parquet", tmp_path, num_examples=4)) == 4
    assert list(examples(source("parquet", tmp_path, num_examples=4))) == found[:4]


def test_both_docstring_delimiters_are_cut(tmp_path: Path) -> None:
    other = CODE.replace('"""', "'''").replace("Ann", "It\\'s \\$5 and Ann")
    parquet_file(tmp_path / "a.parquet", [{"question": "Q 1?", "code": c} for c in (CODE, other)])
    assert [example.program for example in examples(source("parquet", tmp_path))] == [PROGRAM] * 2


def test_rows_that_cannot_be_cut_say_why() -> None:
    config = source("parquet", "x/y")
    with Cutter() as cutter:
        for code in ("def simple_math_problem(", "x = 1", "def f(): return 1"):
            labelled = example_of(config, {"question": "?", "code": code})
            assert labelled.raw is not None
            (parts,) = cutter.cut([labelled.raw])
            with pytest.raises(DroppedError, match="cannot be cut"):
                complete(labelled, parts)
    with pytest.raises(DroppedError, match="empty code"):
        example_of(source("parquet", "x/y"), {"question": "?", "code": None})


def test_jsonl_has_code_or_program(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl.gz"
    table = [{"question": "Q 1?", "program": PROGRAM}, {"code": CODE}]
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in table)
    found = list(examples(source("jsonl", path)))
    assert [example.program for example in found] == [PROGRAM] * 2
    assert [example.question for example in found] == [
        "Q 1?",
        "Ann has 3 apples and buys 4. How many?",
    ]
    assert num_rows(source("jsonl", path)) == 2


def test_a_folder_s_files_are_those_of_the_kind(tmp_path: Path) -> None:
    parquet_file(tmp_path / "train.parquet", [{"question": "Q 1?", "code": CODE}])
    (tmp_path / "train.jsonl").write_text(json.dumps({"question": "Q 2?", "program": PROGRAM}))
    for kind, question in (("parquet", "Q 1?"), ("jsonl", "Q 2?")):
        (example,) = examples(source(kind, tmp_path))
        assert example.question == question
    with pytest.raises(DataError, match=r"train\.jsonl' does not end in \.parquet:"):
        list(rows(source("parquet", tmp_path / "train.jsonl")))
    with pytest.raises(DataError, match=r"train\.parquet' does not end in \.jsonl or"):
        list(rows(source("jsonl", tmp_path / "train.parquet")))


def test_wrong_columns_are_named(tmp_path: Path) -> None:
    parquet_file(tmp_path / "a.parquet", [{"question": "Q 1?", "solution": "x"}])
    with pytest.raises(ValueError, match="no column code: its columns are question, solution"):
        list(rows(source("parquet", tmp_path)))
    with pytest.raises(DataError, match="no column code.*it has question"):
        example_of(source("jsonl", "x/y"), {"question": "?"})


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    for kind in ("parquet", "jsonl", "gsm8k", "candidates"):
        with pytest.raises(DataError, match="no such file or folder"):
            list(rows(source(kind, tmp_path / "nothing")))
        with pytest.raises(DataError, match="holds no"):
            list(rows(source(kind, tmp_path)))


def test_a_file_named_for_another_split_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test-00000.jsonl"
    path.write_text(json.dumps({"question": "Q 1?", "program": PROGRAM}))
    with pytest.raises(DataError, match="named for the test split, but split = 'train'"):
        list(rows(source("jsonl", path)))
    assert len(list(rows(source("jsonl", path, split="test")))) == 1


def test_a_missing_file_of_a_numbered_set_is_named(tmp_path: Path) -> None:
    for shard in (0, 2):
        table = [{"question": f"Question {shard}?", "code": CODE}]
        parquet_file(tmp_path / "data" / f"train-{shard:05d}-of-00004.parquet", table)
    message = "2 of 4 files: data/train-00001-of-00004 and 1 more are missing"
    with pytest.raises(DataError, match=message):
        list(rows(source("parquet", tmp_path)))
    assert (
        len(list(rows(source("parquet", tmp_path / "data" / "train-00002-of-00004.parquet")))) == 1
    )


def test_a_split_whose_name_begins_as_another_s_is_read_alone(tmp_path: Path) -> None:
    for split in ("train", "train_1M"):
        table = [{"question": f"Of {split}?", "code": CODE}]
        parquet_file(tmp_path / "data" / f"{split}-00000-of-00001.parquet", table)
    for split in ("train", "train_1M"):
        (found,) = rows(source("parquet", tmp_path, split=split))
        assert found["question"] == f"Of {split}?"


def test_the_footers_show_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = [{"question": "Question?", "code": CODE}]
    parquet_file(path, table)
    refuse_damaged(source("parquet", tmp_path))
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.parquet is not a whole.*set damaged = 'skip'"):
            refuse_damaged(source("parquet", tmp_path))
        refuse_damaged(source("parquet", tmp_path, damaged="skip"))
    (tmp_path / "b.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"(?s)a\.parquet is not.*b\.parquet is not a whole"):
        refuse_damaged(source("parquet", tmp_path))
    (tmp_path / "b.parquet").unlink()
    parquet_file(path, [{"question": "Question?", "solution": CODE}])
    with pytest.raises(DataError, match=r"a\.parquet has no column code"):
        refuse_damaged(source("parquet", tmp_path))


def test_a_parquet_file_without_rows_is_named_or_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet_file(path, [{"question": "Question?", "code": CODE}])
    parquet.write_table(parquet.read_table(path).slice(0, 0), tmp_path / "b.parquet")
    for read in (refuse_damaged, lambda source: list(rows(source))):
        with pytest.raises(DataError, match=r"b\.parquet is a Parquet file without rows"):
            read(source("parquet", tmp_path))
    first, second = rows(source("parquet", tmp_path, damaged="skip"))
    assert first["question"] == "Question?"
    with pytest.raises(DroppedError, match="file is empty"):
        example_of(source("parquet", tmp_path), second)


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        table = [{"question": f"Question {name} {number}?", "code": CODE} for number in range(40)]
        parquet_file(tmp_path / f"{name}.parquet", table)
    whole = (tmp_path / "b.parquet").read_bytes()
    reading = chunks(source("parquet", tmp_path), 10)
    next(reading)
    (tmp_path / "b.parquet").write_bytes(whole)
    with pytest.raises(DataError, match=r"b\.parquet has changed while it was read"):
        list(reading)


def test_built_in_problems_depend_on_seed_and_index_alone() -> None:
    first = list(examples(source("problems", num_examples=5, seed=3)))
    assert list(examples(source("problems", num_examples=8, seed=3)))[:5] == first
    assert list(examples(source("problems", num_examples=5, seed=4))) != first
    parts = cut(programs.source(first[0].question, first[0].program))
    assert (parts.question, parts.program) == (first[0].question, first[0].program)


def test_the_authors_haste_leaves_questions_alone() -> None:
    careful = list(examples(source("problems", num_examples=200)))
    hasty = list(examples(source("problems", num_examples=200, misread_fraction=1.0)))
    assert [e.question for e in hasty] == [e.question for e in careful]
    assert 20 < sum(a.program != b.program for a, b in zip(hasty, careful, strict=True)) < 200
    with pytest.raises(ValueError, match="misread_fraction = 0.5 with kind = 'parquet'"):
        source("parquet", "TinyGSM/TinyGSM", misread_fraction=0.5)


def candidate(program: str = PROGRAM, verdict: Any = "right", finished: bool = True) -> Candidate:
    return Candidate(
        question_id="q-0",
        question="Ann has 3 apples and buys 4. How many?",
        program=program,
        generator="step_1",
        temperature=0.5,
        index=0,
        status="ok" if verdict != "failed" else "error",
        value=7.0 if verdict != "failed" else None,
        error="",
        verdict=verdict,
        num_tokens=9,
        finished=finished,
    )


def test_candidates_carry_their_verdict(tmp_path: Path) -> None:
    written = [
        candidate(),
        candidate(verdict="wrong"),
        candidate(verdict="failed"),
        candidate(finished=False),
    ]
    candidates.write(candidates.part_path(tmp_path, 0), written[:2], labels={})
    candidates.write(candidates.part_path(tmp_path, 1), written[2:], labels={})
    config = source("candidates", tmp_path)
    found = list(rows(config))
    assert found == written and num_rows(config) == 4
    assert [example_of(config, raw).right for raw in found[:3]] == [True, False, False]
    with pytest.raises(DroppedError, match="not finished"):
        example_of(config, found[3])


def test_real_gsm8k_streams_from_its_folder() -> None:
    config = source("gsm8k", real_data("gsm8k"), num_examples=200)
    found = list(examples(config))
    assert num_rows(source("gsm8k", real_data("gsm8k"))) == 7473
    assert 180 <= len(found) <= 200
    assert found[0].program.splitlines()[-1] == "    return result"
