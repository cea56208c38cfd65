"""slurm/recipe.sh and slurm/submit.sh: what is wrong is not queued, what fails ends the chain."""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import small
from tests.launch.test_recipe import STAGES, TOY
from tests.ranks import ROOT
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import Site


def _call(site: Site, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**site.cluster.environment, **site.environment()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _recipe(
    site: Site, *more: str, options: Sequence[str] = ("--nodes=1", "--time=10")
) -> "subprocess.CompletedProcess[str]":
    folder = f"run.folder={site.folder / 'toy'}"
    # One rank: what two of them do is tested with training.
    config = "configs/recipe_demo.toml"
    return _call(site, "slurm/recipe.sh", *options, config, folder, *TOY, *more)


def _jobs(output: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+) +job (\d+)$", output, re.MULTILINE))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("generator.optimizer.learnin_rate=1", "did you mean generator.optimizer.learning_rate?"),
        ("generator.training.global_batch_sequences=3", "is not a multiple of"),
        ('sampling.checkpoints=["4"]', "the generator is saved every 3 steps"),
    ],
)
def test_a_wrong_recipe_is_not_submitted(site: Site, override: str, message: str) -> None:
    done = _recipe(site, "generator.training.micro_batch_sequences=2", override)
    assert done.returncode == 2
    assert message in done.stderr, done.stderr
    assert done.stdout == "" and site.cluster.run("squeue", "-h") == ""
    assert not (site.folder / "toy").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["training.max_stepz=3"], "did you mean training.max_steps?"),
        (["training.micro_batch_sequences=3"], "3 x 2 = 6"),
        (["data.folder=/nowhere/data"], "submit slurm/prepare.sh with the same config first"),
        (["model.initial_weights=/nowhere/step_3"], "there is no such file or folder"),
        (["no_such.toml"], "config file no_such.toml does not exist"),
    ],
)
def test_a_wrong_training_run_is_not_submitted(
    site: Site, arguments: list[str], message: str
) -> None:
    done = _call(site, "slurm/submit.sh", "--time=5", "slurm/train_1b3.sh", *arguments)
    assert done.returncode == 2
    assert message in done.stderr, done.stderr
    assert site.cluster.run("squeue", "-h") == ""


def _submitted(site: Site, jobs: Sequence[str]) -> list[dict[str, str]]:
    """What Slurm knows of jobs, without what differs from one submission to the next."""
    shown = ("JobName", "Command", "WorkDir", "Comment", "NumNodes", "NumTasks", "ReqTRES")
    shown += ("TimeLimit", "Requeue", "StdOut", "Priority", "CPUs/Task", "Dependency")
    shown += ("KillOInInvalidDependent",)
    numbers = {job: f"job{number}" for number, job in enumerate(jobs)}
    found: list[dict[str, str]] = []
    for job in jobs:
        known = site.cluster.job(job)
        for name in ("StdOut", "Dependency"):
            for number, stands_for in numbers.items():
                # Not in a folder's name, where the same number may be.
                at = rf"(?<=[-:]){number}(?=\.log$|\()"
                known[name] = re.sub(at, stands_for, known.get(name, ""))
        found.append({name: known.get(name, "") for name in shown})
    return found


def test_a_dry_run_of_a_recipe_is_the_script_of_the_real_one(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    site = Site(cluster, tmp_path_factory.mktemp("held"))
    with (site.folder / "site.sh").open("a") as stream:
        # Nothing is to run: what is submitted is compared.
        stream.write("site_options+=(--hold)\nsite_cpu_options+=(--hold)\n")
    # What a shell would take apart.
    options, folder = ["--nodes=1", "--time=10", "--comment=it's $HOME"], site.folder / "a toy"
    words = [f"run.folder={folder}"]
    before = set(site.folder.rglob("*"))
    dry = _recipe(site, *words, "--dry-run", options=options)
    assert dry.returncode == 0, dry.stderr
    assert set(site.folder.rglob("*")) == before and cluster.run("squeue", "-h") == ""
    comments = [line for line in dry.stdout.splitlines() if line.startswith("#")]
    assert sum("memory: " in line for line in comments) == 4
    assert "#   generator.training.max_steps = 6  # default: 1000" in comments
    assert f"#   [1/7] data_generator makes {folder}/data_generator" in comments

    real = _recipe(site, *words, options=options)
    assert real.returncode == 0, real.stderr
    record = json.loads((folder / "jobs.json").read_text())
    wanted = _submitted(site, list(record.values()))
    cluster.run("scancel", *record.values())
    shutil.rmtree(folder)
    # In a shell that knows nothing of us, elsewhere.
    done = subprocess.run(
        ["bash", "-euo", "pipefail"],
        input=dry.stdout,
        cwd=site.folder,
        env=cluster.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    again = json.loads((folder / "jobs.json").read_text())
    assert list(again) == list(record) == [*STAGES, "report"]
    assert _submitted(site, list(again.values())) == wanted
    cluster.run("scancel", *again.values())
    assert (folder / "evaluation.json").is_file()
    assert wanted[1]["Dependency"] == "afterok:job0(unfulfilled),singleton(unfulfilled)"
    assert wanted[1]["KillOInInvalidDependent"] == "Yes"
    assert wanted[1]["Comment"] == "it's"  # scontrol's output is cut at the space


def test_a_dry_run_of_a_job_is_the_line_of_the_real_one(site: Site) -> None:
    folder = site.folder / "dry"
    config = site.config_file(small.config(folder, data={"prepare_if_missing": True}), "dry")
    words = ["--time=5", "--hold", "slurm/train_1b3.sh", str(config), "optimizer.eps=1e-7"]
    # In any position: one more word of the job's would be a job.
    for command in ([words[0], "--dry-run", *words[1:]], [*words, "--dry-run"]):
        dry = _call(site, "slurm/submit.sh", *command)
        assert dry.returncode == 0, dry.stderr
        assert site.cluster.run("squeue", "-h") == "" and not folder.exists()
        assert "# train prepares its data, then starts, from random weights" in dry.stdout
        assert "#   2 ranks: tensor 1 x pipeline 1 x data 2" in dry.stdout
        *_, line = dry.stdout.splitlines()
        assert line.startswith("sbatch --parsable ") and line.endswith(" ".join(words))
    job = site.cluster.run("bash", "-c", dry.stdout)
    real = _call(site, "slurm/submit.sh", *words).stdout.strip()
    wanted, found = _submitted(site, [real]), _submitted(site, [job])
    site.cluster.run("scancel", job, real)
    assert found == wanted


def test_a_dry_run_of_what_is_wrong_prints_no_line(site: Site) -> None:
    wrong = _recipe(site, "--dry-run", "generator.training.global_batch_sequences=3")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    # Reported by the stage itself, beyond what is checked for every job.
    wrong = _recipe(site, "--dry-run", 'generator.data.sources.0.difficulty.story_kinds=["x"]')
    assert (wrong.returncode, wrong.stdout) == (2, "") and "story" in wrong.stderr
    wrong = _call(site, "slurm/submit.sh", "slurm/train_1b3.sh", "--dry-run", "data.folder=/no")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "holds no prepared data" in wrong.stderr


@pytest.mark.parametrize(
    "call", ["submit.sh --array=0-3 slurm/train_1b3.sh", "recipe.sh --array=0-3"]
)
def test_an_array_of_what_has_no_parts_is_not_submitted(site: Site, call: str) -> None:
    done = _call(site, *f"slurm/{call}".split())
    assert done.returncode == 2
    assert "--array is for prepare.sh and sample.sh" in done.stderr, done.stderr
    assert site.cluster.run("squeue", "-h") == ""


def test_half_a_chain_is_cancelled_again(site: Site) -> None:
    # The first stage takes no options, so it is the second that sbatch refuses.
    done = _recipe(site, options=["--nodes=1", "--time=soon"])
    assert done.returncode != 0
    assert "Invalid --time" in done.stderr and "cancelled again: " in done.stdout
    assert "data_generator" in done.stdout and "generator " not in done.stdout.split("job", 1)[1]
    (job,) = _jobs(done.stdout).values()
    assert site.wait(job) == "CANCELLED"


def test_a_failed_stage_ends_the_chain_and_is_named_and_the_next_call_resumes(site: Site) -> None:
    # The loss is not finite after a step: valid, and wrong.
    lost = ["generator.optimizer.learning_rate=1e18", "generator.optimizer.max_grad_norm=0"]
    done = _recipe(site, *lost)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = _jobs(done.stdout)
    assert list(jobs) == [*STAGES, "report"]
    assert site.wait(jobs["report"]) == "FAILED", site.log(jobs["report"])
    said = site.log(jobs["report"])
    assert f"stage generator (job {jobs['generator']}) ended as FAILED (exit code 2)" in said
    assert "lower optimizer.learning_rate" in site.log(jobs["generator"])
    states = {stage: site.cluster.job(job)["JobState"] for stage, job in jobs.items()}
    assert states["data_generator"] == "COMPLETED"
    assert {states[stage] for stage in STAGES[2:]} == {"CANCELLED"}
    assert not (site.folder / "toy" / "candidates").exists()

    done = _recipe(site)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = _jobs(done.stdout)
    state = site.wait(jobs["report"], seconds=500)
    assert state == "COMPLETED", "\n".join(site.log(job) for job in jobs.values())
    assert (site.folder / "toy" / "report.html").is_file()
    assert "nothing to do" in site.ranks_said("toy/data_generator_jobs")


def test_a_job_script_away_from_the_repository_says_so(site: Site, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", str(ROOT / "slurm" / "train_1b3.sh")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "submit from its root, or export TINYGSM_REPOSITORY" in done.stderr
