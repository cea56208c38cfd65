from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

from training.data.parquet_files import label_in, label_of, write


def test_rows_and_label_come_back(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    write(path, pa.table({"a": [1, 2]}), label={"made_from": "x", "rows": 2})
    assert label_of(path) == {"made_from": "x", "rows": 2}
    table = parquet.read_table(path)
    assert table.column("a").to_pylist() == [1, 2]
    assert label_in(table.schema) == label_of(path)
    assert [file.name for file in tmp_path.iterdir()] == ["part.parquet"]


def test_a_file_that_is_missing_damaged_or_without_a_label_has_none(tmp_path: Path) -> None:
    assert label_of(tmp_path / "none.parquet") is None
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 and no more")
    assert label_of(tmp_path / "damaged.parquet") is None
    for metadata in (None, {"tinygsm": "no JSON"}, {"tinygsm": "[1]"}, {"other": "{}"}):
        table = pa.table({"a": [1]}).replace_schema_metadata(metadata)
        parquet.write_table(table, tmp_path / "other.parquet")
        assert label_of(tmp_path / "other.parquet") is None
