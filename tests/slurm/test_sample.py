"""Sampling on a real Slurm: shared by the jobs of an array, stopped and requeued midway."""

from pathlib import Path
from typing import Any

import pytest

from tests.slurm.cluster import until
from tests.slurm.jobs import Site
from tests.training.stages import folders
from training import manifest
from training.config import SampleConfig
from training.data import candidates
from training.records import Candidate
from training.stages.runs.sample import sample

SAMPLE = "slurm/sample.sh"


@pytest.fixture(scope="module")
def inputs(site: Site) -> Path:
    folders.write_inputs(site.folder, num_questions=60)  # enough that a signal comes midway
    return site.folder


@pytest.fixture(scope="module")
def alone(site: Site, inputs: Path) -> list[Candidate]:
    """What one process draws."""
    folder = site.folder / "alone"
    with folders.one_rank() as ranks:
        sample(SampleConfig.model_validate(_tree(inputs, folder)), ranks)
    return list(candidates.read(folder))


def _tree(inputs: Path, folder: Path) -> dict[str, Any]:
    tree = folders.sample_tree(inputs, folder, max_new_tokens=24)
    return tree | {"tracking": {"mode": "auto"}}


def test_the_jobs_of_an_array_draw_the_same_candidates_and_are_one_run(
    site: Site, inputs: Path, alone: list[Candidate]
) -> None:
    folder = site.folder / "array"
    path = folders.written(site.folder, _tree(inputs, folder))
    site.sbatch("--nodes=1", "--array=1-3", SAMPLE, path)
    until(
        lambda: (folder / manifest.MANIFEST).is_file(),
        lambda: site.log("*") + site.ranks_said("array"),
        seconds=200,
    )
    assert list(candidates.read(folder)) == alone
    num_left = site.ranks_said("array").count("not yet")
    # Two that end together both find all there.
    assert num_left in (1, 2), site.ranks_said("array")
    assert len(list((folder / "wandb").glob("offline-run-*"))) <= 3 - num_left


def test_stopped_by_usr1_it_draws_the_rest_in_its_next_attempt(
    site: Site, inputs: Path, alone: list[Candidate]
) -> None:
    folder = site.folder / "stopped"
    job = site.sbatch(SAMPLE, folders.written(site.folder, _tree(inputs, folder)))
    until(
        lambda: len(candidates.part_paths(folder)) > 1,
        lambda: site.log(job) + site.ranks_said("stopped"),
        seconds=200,
    )
    site.cluster.run("scancel", "--batch", "--signal=USR1", job)
    assert site.wait(job) == "COMPLETED", site.log(job) + site.ranks_said("stopped")
    assert "stopped after saving: the job is requeued" in site.log(job)
    assert site.cluster.job(job)["Restarts"] == "1"
    assert list(candidates.read(folder)) == alone
