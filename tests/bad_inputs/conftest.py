"""One trained run for all tests of this folder."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.bad_inputs.harness import Site, train_small


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    @cache
    def made() -> Path:
        folder = tmp_path_factory.mktemp("trained")
        train_small(folder)
        return folder

    return made


@pytest.fixture
def site(tmp_path: Path, trained_folder: Callable[[], Path]) -> Site:
    # A folder below: nothing else may be in it.
    folder = tmp_path / "site"
    folder.mkdir()
    return Site(folder, trained_folder)
