"""Chunks depend on the rows alone, and cross to other processes as what they are."""

import pickle
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from training.data import tables
from training.data.chunks import Batch, Damaged, Lines, Piece, Rows, chunked


def batch(first: int, number: int) -> Batch:
    texts = [f"text {row}" for row in range(first, first + number)]
    return Batch("a.parquet", first, pa.RecordBatch.from_pydict({"question": texts}))


@pytest.mark.parametrize("most", [0, 1, 9, 25, 1000])
@pytest.mark.parametrize("sizes", [[25], [1] * 25, [3, 10, 12], [10, 10, 5]])
def test_borders_do_not_depend_on_the_pieces(sizes: list[int], most: int) -> None:
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    pieces: list[Piece] = [batch(start, size) for start, size in zip(starts, sizes, strict=True)]
    found = list(chunked(pieces, num_rows=10, most=most))
    total = min(most or 25, 25)
    assert [len(chunk) for chunk in found] == [10] * (total // 10) + [total % 10] * (total % 10 > 0)
    rows = chain.from_iterable(chunk.rows() for chunk in found)
    assert [row["question"] for row in rows] == [f"text {row}" for row in range(total)]


def test_nothing_is_read_beyond_the_last_row_that_is_wanted() -> None:
    def pieces():
        yield batch(0, 5)
        raise AssertionError("read on")

    assert [len(chunk) for chunk in chunked(pieces(), num_rows=3, most=5)] == [3, 2]


def test_a_chunk_of_many_kinds_is_the_same_elsewhere(tmp_path: Path) -> None:
    damaged = Damaged(reason="line is damaged", message="b.jsonl, line 3 is too long")
    pieces = [
        batch(7, 5),
        Lines("b.jsonl", [(1, b'{"question": "line 1"}'), (2, b"no JSON"), (3, damaged)]),
        Rows([{"question": "last"}]),
    ]
    (chunk,) = chunked(pieces, num_rows=100)
    there = pickle.loads(pickle.dumps(chunk))
    assert len(there) == len(chunk) == 9
    found = list(there.rows())
    assert found == list(chunk.rows())
    assert found[0] == {"question": "text 7"} and found[5] == {"question": "line 1"}
    assert found[6].message.startswith("b.jsonl, line 2 is not JSON") and found[7] == damaged


def test_a_slice_is_sent_without_what_it_is_a_slice_of() -> None:
    whole = batch(0, 10_000)
    assert len(pickle.dumps(whole.cut(5000, 5010))) < len(pickle.dumps(whole)) / 100


def test_a_damaged_text_is_found_by_whoever_asks_for_the_rows(tmp_path: Path) -> None:
    texts = pa.array([b"good", b"\xff\xfe", b"good"], pa.binary()).view(pa.string())
    parquet.write_table(pa.table({"question": texts}), tmp_path / "a.parquet")
    chunks = list(chunked(tables.pieces(tmp_path / "a.parquet"), num_rows=2))
    rows = [row for chunk in pickle.loads(pickle.dumps(chunks)) for row in chunk.rows()]
    assert rows[0] == rows[2] == {"question": "good"}
    assert rows[1].message.startswith(f"{tmp_path / 'a.parquet'}, row 1 is damaged")
