"""Where the real data lies that some tests read; they skip where it is absent."""

import os
from pathlib import Path

import pytest


def data_folder() -> Path:
    """The folder of the real data, which may be absent."""
    root = Path(__file__).parents[3]
    return Path(os.environ.get("TINYGSM_DATA", root.parent / "shared" / "data"))


def real_data(name: str) -> Path:
    """The file or folder `name` of the real data, or a skipped test."""
    folder = data_folder()
    if not (folder / name).exists():
        pytest.skip(f"real data is absent: {folder / name} (set TINYGSM_DATA)")
    return folder / name
