"""Damaged files: one message that names the file and the place in it, or a count."""

import gzip
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from tests.ranks import ROOT
from training.data.tables import Damaged, rows_of, rows_or_damage
from training.errors import DataError

ROWS = [{"question": f"Question {number}?", "program": "return 1"} for number in range(6)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
DEEP = b"[" * 100_000 + b"]" * 100_000


def parquet_file(path: Path) -> bytes:
    """Three row groups of two rows, with checksums; returns the file's bytes."""
    table = pa.Table.from_pylist(ROWS)
    parquet.write_table(table, path, row_group_size=2, write_page_checksum=True)
    return path.read_bytes()


def no_footer(path: Path) -> None:
    path.write_bytes(parquet_file(path)[:-40])


def odd_footer(path: Path) -> None:
    whole = parquet_file(path)
    path.write_bytes(whole[:-60] + b"\xff" * 40 + whole[-20:])


def damaged_page(path: Path) -> None:
    whole = bytearray(parquet_file(path))
    metadata = parquet.read_metadata(path)
    at = metadata.row_group(1).column(0).dictionary_page_offset
    end = at + metadata.row_group(1).column(0).total_compressed_size
    for place in range(at + 20, end):
        whole[place] ^= 0x55
    path.write_bytes(whole)


def one_bit_of_a_text(path: Path) -> None:
    whole = parquet_file(path)
    at = whole.index(b"Question 3")
    path.write_bytes(whole[:at] + b"q" + whole[at + 1 :])


def no_utf8(path: Path) -> None:
    texts = pa.array([b"good", b"\xff\xfe", b"good"], pa.binary()).view(pa.string())
    parquet.write_table(pa.table({"question": texts}), path)


def writing(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def cut_gz(path: Path) -> None:
    path.write_bytes(gzip.compress(LINES * 400)[:-100])


def damaged_gz(path: Path) -> None:
    whole = bytearray(gzip.compress(LINES * 400))
    whole[60:120] = b"\x00" * 60
    path.write_bytes(whole)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("a.parquet", no_footer, "a.parquet is not a whole Parquet file: "),
        ("b.parquet", odd_footer, "b.parquet is not a whole Parquet file: "),
        ("c.parquet", writing(b""), "c.parquet is not a whole Parquet file: "),
        ("d.parquet", damaged_page, "d.parquet, row group 1 is damaged: "),
        ("e.parquet", one_bit_of_a_text, "e.parquet, row group 1 is damaged: .*(crc|CRC)"),
        ("f.parquet", no_utf8, "f.parquet, row 1 is damaged: .*utf-8"),
        ("a.jsonl.gz", writing(LINES), "a.jsonl.gz is damaged after line 0: Not a gzipped file"),
        ("b.jsonl.gz", cut_gz, r"b.jsonl.gz is damaged after line \d+: "),
        ("c.jsonl.gz", damaged_gz, r"c.jsonl.gz is damaged after line \d+: "),
        ("a.json", writing(b'{"question": "x"}'), "not a JSON list of rows: it holds an object"),
        ("b.json", writing(b'["a", "b"]'), "b.json, entry 0 is no JSON object: it is a text"),
        ("c.json", writing(b"[1, "), "c.json is not a JSON list of rows: "),
        ("d.json", writing(DEEP), "d.json is not a JSON list of rows: it is nested too deeply"),
        ("a.jsonl", writing(LINES + DEEP), "a.jsonl, line 7 is not JSON: it is nested too deeply"),
        ("b.jsonl", writing(LINES + b"null\n"), "b.jsonl, line 7 is no JSON object: it is null"),
        ("c.jsonl", writing(LINES + b"\xff\n"), "c.jsonl, line 7 is not JSON: .*utf-8"),
        ("d.jsonl", writing(b'{"a": ' + b"1" * 5000 + b"}"), "d.jsonl, line 1 is not JSON: "),
        ("e.jsonl", writing(b"x" * (1 << 25)), "e.jsonl, line 1 is longer than 16,777,216 bytes"),
    ],
)
def test_damage_is_reported_with_file_and_place(
    tmp_path: Path, name: str, damage: Callable[[Path], object], message: str
) -> None:
    damage(tmp_path / name)
    with pytest.raises(DataError, match=message):
        list(rows_of([tmp_path / name]))


def test_what_is_whole_around_the_damage_is_read(tmp_path: Path) -> None:
    damaged_page(tmp_path / "a.parquet")
    no_utf8(tmp_path / "b.parquet")
    no_footer(tmp_path / "c.parquet")
    long = b'"' + b"x" * (1 << 25) + b'"\n'
    (tmp_path / "d.jsonl").write_bytes(LINES + b"{\n" + long + b"7\n" + LINES)
    cut_gz(tmp_path / "e.jsonl.gz")
    counts: dict[str, tuple[int, Counter[str]]] = {}
    for path in sorted(tmp_path.iterdir()):
        found = list(rows_or_damage([path]))
        reasons = Counter(row.reason for row in found if isinstance(row, Damaged))
        counts[path.name[0]] = len(found) - sum(reasons.values()), reasons
    assert counts["a"] == (4, {"row group is damaged": 2})
    assert counts["b"] == (2, {"row is damaged": 1})
    assert counts["c"] == (0, {"file is damaged": 1})
    assert counts["d"] == (12, {"line is damaged": 2, "row is damaged": 1})
    assert counts["e"][0] > 1000 and counts["e"][1] == {"file is damaged": 1}


def test_a_line_of_200_mb_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    with path.open("wb") as stream:
        stream.truncate(200_000_000)
    code = (
        "import sys; from pathlib import Path; from training.data.tables import *\n"
        "import resource; resource.setrlimit(resource.RLIMIT_DATA, (400 << 20, 400 << 20))\n"
        f"files = [Path({str(path)!r})]\n"
        "print(num_rows(files), [row.reason for row in rows_or_damage(files)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1 ['line is damaged']\n"


def test_what_the_system_refuses_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(IsADirectoryError):
        list(rows_or_damage([tmp_path / "folder.jsonl"]))
