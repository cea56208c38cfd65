"""One rank for the tests of a file, and the models and questions they work on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from parallel.ranks import Ranks
from tests.training.stages import folders


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    with folders.one_rank() as one:
        yield one


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    folders.write_inputs(folder)
    return folder
