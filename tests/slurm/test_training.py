"""Training jobs on a real Slurm: they train, stop, start again, and end when they should."""

import json
import signal
from pathlib import Path

import pytest

from tests import small
from tests.ranks import ROOT, run_ranks
from tests.slurm.cluster import Cluster, until
from tests.slurm.jobs import Site, losses, saved, steps
from training.config import TrainConfig

TRAIN = "slurm/train_1b3.sh"


@pytest.fixture(scope="module")
def site(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(cluster, tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def data(site: Site) -> TrainConfig:
    return small.prepared(
        site.folder, training={"checkpoint_every_steps": 1000}, tracking={"mode": "auto"}
    )


def test_sbatch_with_overrides_trains_and_saves(site: Site, data: TrainConfig) -> None:
    path = site.config_file(data, "plain", tracking={"mode": "disabled"})
    job = site.sbatch(
        TRAIN,
        str(path),
        "training.max_steps=4",
        "training.checkpoint_every_steps=2",
        extra={"TINYGSM_PREFLIGHT": "1"},
    )
    assert site.wait(job) == "COMPLETED", site.log(job) + site.ranks_said("plain")
    assert saved(site.folder / "plain") == [2, 4]
    assert "preflight: 2 nodes are fit" in site.log(job)
    run = json.loads((site.folder / "plain" / "run.json").read_text())
    assert run["training"]["max_steps"] == 4
    assert len(list((site.folder / "plain" / "logs").rglob("rank-*.log"))) == 2
