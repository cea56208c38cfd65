"""Preparing on a real Slurm: over nodes by MPI, by the tasks of an array, in several attempts."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.cluster import until
from tests.slurm.jobs import Site
from tests.training.data.preparing import config, content, jsonl, row
from training.config import resolved
from training.data.prepare import prepare

PREPARE = "slurm/prepare.sh"
ROWS = 5000


@pytest.fixture(scope="module")
def source(site: Site) -> dict[str, Any]:
    questions = (f"Ann has {number} apples and buys 4. How many?" for number in range(ROWS))
    return jsonl(site.folder, *map(row, questions))


@pytest.fixture(scope="module")
def alone(site: Site, source: dict[str, Any]) -> dict[str, bytes]:
    """What one process writes."""
    folder = site.folder / "alone"
    prepare(config(folder, source))
    return content(folder)


def _written(site: Site, source: dict[str, Any], name: str, **data: Any) -> tuple[str, Path]:
    """A config file and the folder that it prepares."""
    wanted = config(site.folder / name, source, **data)
    tree = {"data": resolved(wanted.data), "execution": resolved(wanted.execution)}
    path = site.folder / f"{name}.json"
    path.write_text(json.dumps({"run": {"folder": str(site.folder / "run")}, **tree}))
    return str(path), wanted.data.folder


def _srun_says(site: Site) -> str:
    """What srun says of its MPI plugin; where its library is missing: that."""
    command = ["srun", "--mpi=pmix", "--ntasks=1", "true"]
    done = subprocess.run(
        command, env=site.cluster.environment, capture_output=True, text=True, timeout=60
    )
    return done.stderr


def test_ranks_on_several_nodes_write_the_same_bytes(
    site: Site, source: dict[str, Any], alone: dict[str, bytes]
) -> None:
    if "PMIx" in (said := _srun_says(site)):
        pytest.skip(f"apt-get install libpmix-dev: {said}")
    path, folder = _written(site, source, "spread")
    check = {"TINYGSM_PREFLIGHT": "1"}
    job = site.sbatch("--nodes=3", "--cpus-per-task=2", PREPARE, path, extra=check)
    assert site.wait(job) == "COMPLETED", site.log(job) + site.ranks_said("spread_jobs")
    assert "preflight: 3 nodes are fit" in site.log(job)
    assert "rank 0 maps over the 5 other MPI ranks" in site.ranks_said("spread_jobs")
    assert content(folder) == alone


def test_a_rank_that_is_killed_brings_the_job_back_for_what_is_missing(
    site: Site, source: dict[str, Any], alone: dict[str, bytes]
) -> None:
    if "PMIx" in (said := _srun_says(site)):
        pytest.skip(f"apt-get install libpmix-dev: {said}")
    path, folder = _written(site, source, "killed", run_programs=True)
    job = site.sbatch("--nodes=2", "--cpus-per-task=1", PREPARE, path)
    parts = folder.with_name("killed.parts")
    until(lambda: any(parts.glob("part-*")), lambda: site.log(job), seconds=120)
    os.kill(site.cluster.rank(job, 1), signal.SIGKILL)
    assert site.wait(job) == "COMPLETED", site.log(job) + site.ranks_said("killed_jobs")
    assert "a rank was killed (" in site.log(job) and ": task 1: Killed)" in site.log(job)
    assert site.cluster.job(job)["Restarts"] == "1"
    assert _rows(content(folder)) == _rows(alone)


def _rows(files: dict[str, bytes]) -> dict[str, bytes]:
    """All but the manifest, which says whether programs were run."""
    return {name: data for name, data in files.items() if name != "manifest.json"}


def test_the_jobs_of_an_array_share_the_work(
    site: Site, source: dict[str, Any], alone: dict[str, bytes]
) -> None:
    path, folder = _written(site, source, "array")
    job = site.sbatch("--nodes=1", "--array=0-2", PREPARE, path)
    until(
        # Said once the manifest is there.
        lambda: "prepared " in site.ranks_said("array_jobs"),
        lambda: site.log(f"{job}*") + site.ranks_said("array_jobs"),
        seconds=200,
    )
    assert content(folder) == alone
    said = site.ranks_said("array_jobs")
    # Two that end together both find all there.
    assert said.count("not yet") in (1, 2), said
    refused = site.sbatch("--nodes=1", "--array=1,2,7", PREPARE, path)
    until(lambda: "not evenly spaced" in site.log("*"), f"{refused} not refused", seconds=60)


def test_stopped_by_usr1_it_makes_the_rest_in_its_next_attempt(
    site: Site, source: dict[str, Any], alone: dict[str, bytes]
) -> None:
    # Programs are run, which takes longer and drops none of them.
    path, folder = _written(site, source, "stopped", run_programs=True)
    job = site.sbatch("--nodes=1", PREPARE, path)
    parts = folder.with_name("stopped.parts")
    until(lambda: any(parts.glob("part-*")), lambda: site.log(job), seconds=120)
    site.cluster.run("scancel", "--batch", "--signal=USR1", job)
    assert site.wait(job) == "COMPLETED", site.log(job) + site.ranks_said("stopped_jobs")
    assert "the job is requeued" in site.log(job)
    assert site.cluster.job(job)["Restarts"] == "1"
    assert _rows(content(folder)) == _rows(alone)
    entries = (site.folder / "stopped_jobs" / "attempts.jsonl").read_text().splitlines()
    assert json.loads(entries[0])["progress"] == "0 parts"
    assert " parts, the newest of " in json.loads(entries[1])["progress"]
