"""Training jobs on a real Slurm: they train, stop, start again, and end when they should."""

import json
import os
import re
import signal

import pytest

from tests import small
from tests.ranks import run_ranks
from tests.slurm.cluster import until
from tests.slurm.jobs import Site, losses, saved, steps
from training.config import TrainConfig
from training.lifecycle.attempts import read

TRAIN = "slurm/train.sh"


@pytest.fixture(scope="module")
def data(site: Site) -> TrainConfig:
    return small.prepared(site.folder, checkpoint={"every_steps": 1000}, tracking={"mode": "auto"})


_LONG = {"max_steps": 200}  # and no checkpoint before the end, as `data` says


@pytest.fixture(scope="module")
def uninterrupted(site: Site, data: TrainConfig) -> list[float]:
    """The losses of 200 steps of two ranks without Slurm."""
    path = site.config_file(data, "uninterrupted", training=_LONG)
    run_ranks(2, ["launch/train.py", str(path)])
    return losses(site.folder / "uninterrupted")


def test_sbatch_with_overrides_trains_and_saves(site: Site, data: TrainConfig) -> None:
    path = site.config_file(data, "plain", tracking={"mode": "disabled"})
    tree = json.loads(path.read_text())
    # The script's own config, which this one replaces, says true.
    assert tree["model"].pop("activation_checkpointing") is False
    path.write_text(json.dumps(tree))
    job = site.sbatch(
        "slurm/train_1b3.sh",
        str(path),
        "training.max_steps=4",
        "checkpoint.every_steps=2",
        extra={"TINYGSM_PREFLIGHT": "1"},
    )
    assert site.wait(job) == "COMPLETED", site.log(job) + site.ranks_said("plain")
    assert saved(site.folder / "plain") == [2, 4]
    assert "preflight: 2 nodes are fit" in site.log(job)
    run = json.loads((site.folder / "plain" / "run.json").read_text())
    assert run["training"]["max_steps"] == 4
    assert run["model"]["activation_checkpointing"] is False
    assert len(list((site.folder / "plain" / "logs").rglob("rank-*.log"))) == 2


def test_stopped_by_usr1_it_resumes_to_the_same_numbers(
    site: Site, data: TrainConfig, uninterrupted: list[float]
) -> None:
    broken = site.config_file(data, "broken", training=_LONG)
    job = site.sbatch(TRAIN, str(broken))
    # What waits for the job keeps waiting while the job is requeued.
    waiting = site.sbatch(f"--dependency=afterok:{job}", "--kill-on-invalid-dep=yes", "--wrap=true")
    site.wait_for_steps("broken", 3, job)
    site.cluster.run("scancel", "--batch", "--signal=USR1", job)
    assert site.wait(job) == "COMPLETED", site.log(job) + site.ranks_said("broken")
    run = site.folder / "broken"
    assert len(saved(run)) == 2 and saved(run)[-1] == 200, "stopped once, midway"
    assert "the time limit is near" in site.log(job)
    assert "the job is requeued" in site.log(job)
    assert f"resuming from {run}/checkpoints/step_{saved(run)[0]}" in site.ranks_said("broken")
    assert site.cluster.job(job)["Restarts"] == "1"
    assert site.wait(waiting) == "COMPLETED"
    # One W&B run in two pieces.
    run_id = (run / "wandb_run_id").read_text().strip()
    pieces = [path.name for path in (run / "wandb").glob("offline-run-*")]
    assert len(pieces) == 2 and all(run_id in name for name in pieces)
    assert losses(run) == uninterrupted
    assert steps(run) == list(range(1, 201))


def test_the_time_limit_saves_and_requeues_and_cancelling_is_final(
    site: Site, data: TrainConfig
) -> None:
    path = site.config_file(data, "limited", training={"max_steps": 60_000})
    # Slurm looks at limits twice a minute and may send the signal a minute early: on a busy
    # machine before the ranks train. Such an attempt is requeued with nothing saved.
    job = site.sbatch("--time=2", "--signal=B:USR1@40", TRAIN, str(path))
    run = site.folder / "limited"
    until(lambda: "SIGUSR1: the time limit is near" in site.log(job), "no signal", seconds=200)
    until(
        lambda: "stopped after saving: the job is requeued" in site.log(job),
        lambda: f"not requeued\n{site.log(job)}",
        seconds=400,
    )
    before = max(saved(run))
    site.wait_for_steps("limited", before + 1, job)
    assert f"checkpoints/step_{before}" in site.ranks_said("limited")
    restarts = site.cluster.job(job)["Restarts"]
    assert int(restarts) >= 1
    site.cluster.run("scancel", job)
    assert site.wait(job) == "CANCELLED"
    until(lambda: f"Slurm has ended attempt {restarts}" in site.log(job), site.log(job), seconds=20)
    assert site.cluster.job(job)["Restarts"] == restarts, site.log(job)


def test_requeued_by_hand_it_resumes_to_the_same_numbers(
    site: Site, data: TrainConfig, uninterrupted: list[float]
) -> None:
    path = site.config_file(
        data,
        "by_hand",
        training=_LONG,
        checkpoint={"every_steps": 20},
        tracking={"mode": "disabled"},
    )
    job = site.sbatch(TRAIN, str(path))
    run = site.folder / "by_hand"
    until(lambda: bool(saved(run)), lambda: f"nothing saved\n{site.log(job)}", seconds=300)
    site.cluster.run("scontrol", "requeue", job)
    assert site.wait(job) == "COMPLETED", site.log(job) + site.ranks_said("by_hand")
    assert site.cluster.job(job)["Restarts"] == "1"
    assert "Slurm has ended attempt 0" in site.log(job)
    first, second = read(run)
    assert (first["progress"], second["progress"]) == ("step 0", f"step {_began(site, 'by_hand')}")
    assert losses(run) == uninterrupted
    assert steps(run) == list(range(1, 201))


def _began(site: Site, run: str) -> str:
    """The step that the second attempt resumed from, as the ranks said."""
    (step,) = set(re.findall(r"resuming from \S+/step_(\d+)", site.ranks_said(run)))
    return step


def test_a_job_ends_after_three_attempts_that_save_nothing(site: Site, data: TrainConfig) -> None:
    path = site.config_file(data, "in_vain", tracking={"mode": "disabled"})
    job = site.sbatch(TRAIN, str(path))
    for attempt in range(3):
        until(
            lambda attempt=attempt: f"attempt {attempt} of job {job}" in site.log(job),
            lambda: f"not started\n{site.log(job)}",
            seconds=120,
        )
        # As where the time limit comes before anything is saved.
        site.cluster.run("scancel", "--batch", "--signal=USR1", job)
    assert site.wait(job) == "FAILED", site.log(job)
    assert site.cluster.job(job)["Restarts"] == "3"
    assert site.log(job).count("stopped before there was anything to save") == 3, site.log(job)
    assert "attempt 3 of job" in site.log(job)
    assert f"job {job} has made 3 attempts and the last 3 saved nothing new" in site.log(job)
    assert len(read(site.folder / "in_vain")) == 3
    assert saved(site.folder / "in_vain") == []


def test_an_error_that_a_user_can_correct_is_in_the_jobs_log(site: Site, data: TrainConfig) -> None:
    # One of two ranks says it, whichever ends first.
    optimizer = {"learning_rate": 1e18, "max_grad_norm": 0}
    path = site.config_file(data, "lost", optimizer=optimizer, tracking={"mode": "disabled"})
    job = site.sbatch(TRAIN, str(path))
    assert site.wait(job) == "FAILED", site.log(job)
    assert "train failed with exit code 2" in site.log(job)
    assert "lower optimizer.learning_rate" in site.log(job), site.log(job)


def test_a_rank_that_dies_is_named_and_leaves_nothing_behind(site: Site, data: TrainConfig) -> None:
    path = site.config_file(data, "died", training={"max_steps": 60_000})
    job = site.sbatch(TRAIN, str(path))
    site.wait_for_steps("died", 3, job)
    cluster, mark = site.cluster, f"SLURM_JOB_ID={job}"
    rank = cluster.rank(job, 1)
    node = cluster.run("scontrol", "show", "hostnames", cluster.job(job)["NodeList"]).split()[1]
    os.kill(rank, signal.SIGKILL)
    assert site.wait(job, seconds=60) == "FAILED", site.log(job)
    named = f"train failed with exit code 137 (first: {node}: task 1: Killed)"
    assert named in site.log(job), site.log(job)
    assert "attempt-0/rank-001.log:" in site.log(job)
    assert cluster.job(job)["Restarts"] == "0"
    until(
        lambda: not list(cluster.processes(mark)),
        lambda: f"left behind: {list(cluster.processes(mark))}",
        seconds=30,
    )


def test_the_job_leaves_a_killed_node_and_resumes_elsewhere(site: Site, data: TrainConfig) -> None:
    training, often = {"max_steps": 100}, {"every_steps": 20}
    path = site.config_file(
        data, "moved", training=training, checkpoint=often, tracking={"mode": "disabled"}
    )
    job = site.sbatch(TRAIN, str(path))
    site.wait_for_steps("moved", 21, job)
    nodes = site.cluster.run("scontrol", "show", "hostnames", site.cluster.job(job)["NodeList"])
    lost = nodes.split()[1]
    try:
        site.cluster.kill_node(lost)
        assert site.wait(job, seconds=400) == "COMPLETED", site.log(job)
        assert site.cluster.job(job)["Restarts"] == "1"
        now = site.cluster.run("scontrol", "show", "hostnames", site.cluster.job(job)["NodeList"])
        assert lost not in now.split()
        assert f"Node failure on {lost}" in site.log(job)
    finally:
        site.cluster.start_node(lost)
    assert "resuming from" in site.ranks_said("moved")
    assert steps(site.folder / "moved") == list(range(1, 101))


def test_a_wrong_config_ends_before_any_rank_starts(site: Site, data: TrainConfig) -> None:
    path = site.config_file(data, "wrong")
    job = site.sbatch(TRAIN, str(path), "optimizer.learnin_rate=1e-3")
    assert site.wait(job, seconds=120) == "FAILED"
    assert "did you mean optimizer.learning_rate?" in site.log(job)
    assert not (site.folder / "wrong").exists()
