"""One server of ranks and one trained run for all tests of this folder."""

from collections.abc import Callable, Generator
from functools import cache
from pathlib import Path

import pytest

from tests.bad_inputs.harness import Launcher, Site, train_small


@pytest.fixture(scope="session")
def launcher() -> Generator[Launcher, None, None]:
    started = Launcher()
    yield started
    started.close()


@pytest.fixture(scope="session")
def trained_folder(
    tmp_path_factory: pytest.TempPathFactory, launcher: Launcher
) -> Callable[[], Path]:
    @cache
    def made() -> Path:
        folder = tmp_path_factory.mktemp("trained")
        train_small(folder, launcher)
        return folder

    return made


@pytest.fixture
def site(tmp_path: Path, trained_folder: Callable[[], Path]) -> Site:
    # A folder below: the ranks' output files are beside it.
    folder = tmp_path / "site"
    folder.mkdir()
    return Site(folder, trained_folder)
