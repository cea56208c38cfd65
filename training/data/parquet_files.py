"""Writes Parquet files that carry a JSON label, and reads the label back without the rows.

    write(path, table, label={"made_from": fingerprint})
    label_of(path)          # None: the file is missing, damaged or has no label

The label is stored in the file's own metadata, so it can never belong to other rows. A file is
written beside its final name and renamed, so it is complete or absent. Reading rows is
`tables.py`'s.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as parquet

from training.files import replacing

_KEY = b"tinygsm"


def write(path: Path, table: pa.Table, *, label: Mapping[str, Any]) -> None:
    """Durably write a table, compressed and with checksums of its pages."""
    labelled = table.replace_schema_metadata({_KEY: json.dumps(dict(label))})
    with replacing(path) as temporary:
        parquet.write_table(labelled, temporary, compression="zstd", write_page_checksum=True)


def label_of(path: Path) -> dict[str, Any] | None:
    """The label of a file; None if the file is missing or damaged, or has none."""
    try:
        return label_in(parquet.read_schema(path))
    except (OSError, ValueError, pa.ArrowInvalid):
        return None


def label_in(schema: pa.Schema) -> dict[str, Any] | None:
    """The label in the schema of a file that was read; None if it has none.

    Raises:
        ValueError: the label is not JSON.
    """
    label: Any = json.loads((schema.metadata or {}).get(_KEY, b"null"))
    return cast("dict[str, Any]", label) if isinstance(label, dict) else None
