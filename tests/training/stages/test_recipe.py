"""What a recipe and its jobs note beside the stages."""

from pathlib import Path

import pytest

from training.errors import DamagedFileError
from training.files import read_json
from training.stages import jobs, recipe


@pytest.mark.parametrize("before", ["[1]", '{"generator": [1]}', '{"gen', None])
def test_damaged_seconds_cost_no_stage(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / recipe.SECONDS
    if before is not None:
        path.write_text(before)
    recipe.add_seconds(path, "generator", 2.5)
    recipe.add_seconds(path, "generator", 1.0)
    assert read_json(path) == {"generator": 3.5}


def test_jobs_that_are_no_object_are_named(tmp_path: Path) -> None:
    (tmp_path / jobs.JOBS).write_text("[1]")
    with pytest.raises(DamagedFileError, match=r"jobs\.json holds a list, not a JSON object"):
        jobs.read(tmp_path)
