"""Small training runs as jobs of the test cluster: 2 CPU ranks, each on a node of its own."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.slurm.cluster import Cluster, until
from training.config import TrainConfig, resolved
from training.files import write_json

# What a person would write for two nodes without GPUs, where node names do not resolve.
_SITE = """\
python_command=({python})
python_login_command=()
srun_options=()
site_options=(--nodes=2 --ntasks-per-node=1 --gpus-per-node=0 --cpus-per-task=1 --mem=100
  --output={folder}/%x-%j.log)
site_cpu_options=(--cpus-per-task=1 --output={folder}/%x-%j.log)
export MASTER_ADDR=127.0.0.1 TINYGSM_MIN_FREE_GIB=1 TINYGSM_MIN_GIB_PER_SECOND=0
: "${{TINYGSM_PREFLIGHT:=0}}"
export OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES= WANDB_MODE=offline
"""


@dataclass(frozen=True)
class Site:
    """A folder with a site file, configs and logs."""

    cluster: Cluster
    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        text = _SITE.format(python=sys.executable, folder=self.folder)
        (self.folder / "site.sh").write_text(text)

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        return {"TINYGSM_SITE": str(self.folder / "site.sh"), **(extra or {})}

    def config_file(self, base: TrainConfig, name: str, **changes: dict[str, Any]) -> Path:
        """A config file of a run in `folder/name`."""
        tree = resolved(base)
        tree["run"] |= {"folder": str(self.folder / name), "name": name}
        for section, values in changes.items():
            tree[section] |= values
        write_json(self.folder / f"{name}.json", tree)
        return self.folder / f"{name}.json"

    def sbatch(self, *arguments: str, extra: Mapping[str, str] | None = None) -> str:
        """`sbatch` itself, two nodes of one rank; options of the site file do not reach it."""
        options = ["--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=0", "--cpus-per-task=1"]
        options += ["--mem=100", f"--output={self.folder}/%x-%j.log"]
        return self.cluster.sbatch(*options, *arguments, extra=self.environment(extra))

    def log(self, job: str) -> str:
        """What the job script has said so far."""
        return "".join(path.read_text() for path in self.folder.glob(f"*-{job}.log"))

    def ranks_said(self, run: str) -> str:
        """What the ranks of all attempts have said."""
        paths = sorted((self.folder / run / "logs").rglob("rank-*.log"))
        return "\n".join(f"--- {path}\n{path.read_text()}" for path in paths)

    def wait(self, job: str, *, seconds: float = 300) -> str:
        """The job's last state; all that was said when it does not come."""
        try:
            return self.cluster.wait(job, seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log(job)}") from None

    def wait_for_steps(self, run: str, number: int, job: str, *, seconds: float = 300) -> None:
        """Wait until a run has logged so many steps."""
        until(
            lambda: len(steps(self.folder / run)) >= number,
            lambda: f"{run} has no {number} steps\n{self.log(job)}\n{self.ranks_said(run)}",
            seconds=seconds,
        )


def steps(run: Path) -> list[int]:
    return [line["step"] for line in metrics(run)]


def losses(run: Path) -> list[float]:
    return [line["train/loss"] for line in metrics(run)]


def metrics(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    text = path.read_text() if path.is_file() else ""
    # A line that is being written has no end yet.
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def saved(run: Path) -> list[int]:
    names = (path.name.removeprefix("step_") for path in (run / "checkpoints").glob("step_*"))
    return sorted(int(name) for name in names if name.isdigit())  # not those under way
