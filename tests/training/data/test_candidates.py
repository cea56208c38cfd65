from dataclasses import fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from tests.training.evaluation.samples import candidate
from training.data.candidates import (
    SCHEMA,
    labels,
    merge,
    part_path,
    part_paths,
    read,
    write,
    write_questions,
)
from training.records import Candidate, Question


def test_the_schema_is_the_record():
    assert SCHEMA.names == [field.name for field in fields(Candidate)]


def test_what_is_written_comes_back(tmp_path: Path):
    written = [
        candidate(score=0.25),
        candidate(index=1, value=None, status="timeout", finished=False),
        candidate(index=2, program="", value=-1e300, question="Wie viele Äpfel? 🍎"),
    ]
    write(tmp_path / "part-00000.parquet", written, labels={"made_from": "x"})
    assert list(read(tmp_path)) == written
    assert labels(tmp_path / "part-00000.parquet") == {"made_from": "x"}


def test_half_characters_do_not_cost_a_part(tmp_path: Path):
    path = part_path(tmp_path, 0)
    write(path, [candidate(program="    return '\ud83c'", error="E: \udcff")], labels={})
    (back,) = read(path)
    assert back.program == "    return '?'" and back.error == "E: ?"


def test_parts_are_read_by_number_and_unfinished_ones_never(tmp_path: Path):
    for number in (100_000, 2, 0):
        write(part_path(tmp_path, number), [candidate(index=number)], labels={})
    (tmp_path / ".part-00001.parquet.77.tmp").write_bytes(b"half")
    assert [path.name for path in part_paths(tmp_path)] == [
        "part-00000.parquet",
        "part-00002.parquet",
        "part-100000.parquet",
    ]
    assert [c.index for c in read(tmp_path)] == [0, 2, 100_000]
    merge(part_paths(tmp_path), tmp_path / "all.parquet")
    assert list(read(tmp_path / "all.parquet")) == list(read(tmp_path))


def test_no_candidates_are_a_whole_part(tmp_path: Path):
    write(part_path(tmp_path, 0), [], labels={"a": "b"})
    assert list(read(tmp_path)) == []
    assert labels(part_path(tmp_path, 0)) == {"a": "b"}


def test_a_part_that_is_missing_damaged_or_anothers_has_no_labels(tmp_path: Path):
    assert labels(tmp_path / "none.parquet") is None
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 and no more")
    assert labels(tmp_path / "damaged.parquet") is None
    parquet.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    assert labels(tmp_path / "other.parquet") is None


def test_reading_what_is_not_there_says_so(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="holds no candidates"):
        list(read(tmp_path))
    with pytest.raises(FileNotFoundError, match="holds no candidates"):
        list(read(tmp_path / "part-00000.parquet"))
    (tmp_path / "damaged.parquet").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a whole Parquet file"):
        list(read(tmp_path / "damaged.parquet"))
    parquet.write_table(pa.table({"question_id": ["q"]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="has no column .*its columns are question_id"):
        list(read(tmp_path / "other.parquet"))


def test_questions_keep_gold_and_tags(tmp_path: Path):
    question = Question(id="q-0", text="How many?", gold=7.0, tags={"operations": 2})
    write_questions(tmp_path / "questions.parquet", [question])
    (row,) = parquet.read_table(tmp_path / "questions.parquet").to_pylist()
    assert row == {"id": "q-0", "text": "How many?", "gold": 7.0, "tags": '{"operations": 2}'}
