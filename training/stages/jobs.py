"""The jobs of a recipe on a Slurm cluster: which stage is which job, and how it ended.

`jobs.json` in the recipe's folder is written by slurm/recipe.sh: stage to job id, in order.
"""

import re
import subprocess
from pathlib import Path

from training.files import read_json_object

JOBS = "jobs.json"


def read(folder: Path) -> dict[str, str]:
    """Stage to job id of the last submission; empty for a recipe that ran without Slurm."""
    path = folder / JOBS
    return read_json_object(path) if path.is_file() else {}


def failed_stage(folder: Path) -> tuple[str, str, str] | None:
    """The first stage whose job ended badly: its name, its job, and how the job ended.

    A job that Slurm no longer knows is passed over.
    """
    for stage, job in read(folder).items():
        state = job_state(job)
        if state and state.split()[0] not in ("COMPLETED", "PENDING", "RUNNING", "COMPLETING"):
            return stage, job, state
    return None


def job_state(job: str) -> str:
    """`COMPLETED`, `FAILED (exit code 2)` and so on; empty: nobody knows the job."""
    shown = _output("scontrol", "--oneliner", "show", "job", job)
    state = re.search(r"\bJobState=(\S+)", shown)
    code = re.search(r"\bExitCode=(\d+):(\d+)", shown)
    if state is None:
        # The controller forgets after some minutes; the accounting, where there is one, does not.
        line = _output("sacct", "-n", "-X", "-P", "-o", "State,ExitCode", "-j", job).strip()
        state = re.match(r"([A-Z_]+)", line)
        code = re.search(r"\|(\d+):(\d+)", line)
    if state is None:
        return ""
    if state.group(1) != "FAILED" or code is None:
        return state.group(1)
    number = int(code.group(1))
    return f"FAILED ({f'exit code {number}' if number else f'signal {code.group(2)}'})"


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
