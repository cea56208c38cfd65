"""One cluster for all tests of this folder; without Slurm they are skipped."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, missing


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if reason := missing():
        pytest.skip(reason)
    # A short path: a Unix socket's may have 107 characters.
    started = Cluster(Path(tempfile.mkdtemp(prefix="slurm-")))
    try:
        started.start()
        yield started
    finally:
        started.stop()
