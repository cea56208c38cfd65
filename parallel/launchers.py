"""The environments of torchrun, deepspeed, mpirun and srun: which rank a process is.

    process = identify(os.environ)      # LaunchedProcess(rank=3, world_size=8, ...)
    export(process)                     # sets the five variables of torch.distributed

The five are RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT. With them set, no library
starts a discovery of its own. `ranks.py` wraps both calls.
"""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from training.config import ConfigError

_LAUNCHERS = {
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),  # deepspeed sets the same
    "mpirun": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    "srun": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
}
_SPECIAL_STEPS = 0xFFFF_FFF0
"""Slurm gives step numbers from here on to batch scripts and to the shell of salloc."""
_DEEPSPEEDS_PORT = "29500"


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchedProcess:
    """One process of a run, as its launcher numbers it."""

    rank: int
    world_size: int
    local_rank: int
    """Among the processes of this node."""
    launcher: str


def identify(env: Mapping[str, str]) -> LaunchedProcess:
    """The process that a launcher's variables describe; without any, the only one of its run.

    Raises:
        ConfigError: the launcher is unknown, or its variables contradict each other.
    """
    process = LaunchedProcess(rank=0, world_size=1, local_rank=0, launcher="python")
    for launcher, (rank, size, local) in _LAUNCHERS.items():
        if rank in env and size in env and (launcher != "srun" or _is_srun_step(env)):
            process = LaunchedProcess(
                rank=_number(env, rank),
                world_size=_number(env, size),
                local_rank=_number(env, local) if local in env else 0,
                launcher=launcher,
            )
            break
    else:
        if "PMI_SIZE" in env and _number(env, "PMI_SIZE") > 1:
            # Otherwise each process would train by itself, all of them in one run folder.
            raise ConfigError(
                f"started {env['PMI_SIZE']} times by an mpirun that is not Open MPI's: use Open "
                "MPI's, srun, torchrun or deepspeed"
            )
    if not 0 <= process.rank < process.world_size:
        raise ConfigError(
            f"{process.launcher} gives rank {process.rank} of {process.world_size} ranks: unset "
            "its variables, or start the ranks by a launcher"
        )
    return process


def export(process: LaunchedProcess) -> None:
    """Set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT for this process.

    Raises:
        ConfigError: the launcher does not say which node all ranks can connect to.
    """
    os.environ["RANK"] = str(process.rank)
    os.environ["WORLD_SIZE"] = str(process.world_size)
    os.environ["LOCAL_RANK"] = str(process.local_rank)
    if process.launcher == "python":
        # One process: a free port, so that two runs on a node never use the same one.
        os.environ["MASTER_ADDR"] = "127.0.0.1"
        os.environ["MASTER_PORT"] = str(free_port())
        return
    if process.launcher == "torchrun":
        if number := _deepspeed_launcher(os.environ):
            os.environ["MASTER_PORT"] = str(port_of(number, 0))
        # Both launchers set these; a user who sets RANK by hand may not.
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", _DEEPSPEEDS_PORT)
        return
    # A value set by the user wins; slurm/site.sh leaves MASTER_ADDR empty.
    if not os.environ.get("MASTER_ADDR"):
        os.environ["MASTER_ADDR"] = first_node(os.environ, process.launcher)
    if not os.environ.get("MASTER_PORT"):
        os.environ["MASTER_PORT"] = str(port_of(*run_and_step(os.environ, process.launcher)))


def _is_srun_step(env: Mapping[str, str]) -> bool:
    """Whether srun started this process: a batch script has its variables, but is one process."""
    step = env.get("SLURM_STEP_ID", "")
    return step.isdigit() and int(step) < _SPECIAL_STEPS


def _number(env: Mapping[str, str], name: str) -> int:
    try:
        return int(env[name])
    except ValueError:
        raise ConfigError(
            f"the environment has {name} = {env[name]!r}, not a number: unset it, or start the "
            "ranks by a launcher"
        ) from None


def first_node(env: Mapping[str, str], launcher: str) -> str:
    """The node of rank 0, by a name that the other nodes can resolve.

    Under Slurm the first node of the job (`gpu03` of `gpu[03-05,9]`); without Slurm the host of
    mpirun, which Open MPI 5 passes to all ranks.

    Raises:
        ConfigError: there are several nodes and the launcher names none of them.
    """
    if launcher == "srun":
        alone = env.get("SLURM_STEP_NUM_NODES") == "1"
        nodes = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST", "")
    else:
        alone = env.get("OMPI_COMM_WORLD_LOCAL_SIZE") == env["OMPI_COMM_WORLD_SIZE"]
        host = re.match(r"prte\w*-(.+)-\d+@", env.get("PMIX_NAMESPACE", ""))
        # Not the step's nodes: they may lack mpirun's own.
        nodes = env.get("SLURM_JOB_NODELIST") or (host.group(1) if host else "")
    if alone:
        return "127.0.0.1"  # host names may not resolve
    if not (first := re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodes)):
        raise ConfigError(
            f"{launcher} starts ranks on several nodes and does not say which is the first: "
            "set MASTER_ADDR to it (mpirun -x MASTER_ADDR=NODE ...)"
        )
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", first.group())


def run_and_step(env: Mapping[str, str], launcher: str) -> tuple[int, int]:
    """Two numbers that are equal on all ranks of a run and differ between runs on a node."""
    if launcher == "srun":
        return int(env.get("SLURM_JOB_ID", 0)), int(env["SLURM_STEP_ID"])
    # Open MPI 5: `prterun-HOST-PROCESS@1`; 4: one number, 65536 times a hash of both, plus 1.
    name = env.get("PMIX_NAMESPACE") or env.get("OMPI_MCA_ess_base_jobid") or "0"
    numbers = [int(digits) for digits in re.findall(r"\d+", name)]
    run, step = numbers[-2:] if len(numbers) > 1 else divmod(numbers[-1], 1 << 16)
    return run, step


def port_of(run: int, step: int) -> int:
    """The port of one step of a run (a Slurm job's step), in 20000 to 29999.

    Below 32768: Linux uses higher ports for outgoing connections. Runs on one node tend to have
    consecutive numbers, so steps of one run are spread far apart.
    """
    return 20_000 + (run + 6_181 * step) % 10_000


def free_port() -> int:
    """A port of this machine that no process uses now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _deepspeed_launcher(env: Mapping[str, str]) -> int | None:
    """The process id of the deepspeed launcher, where it chose its default port; else None.

    Two `deepspeed` runs on one machine would both use that port.
    """
    if env.get("CROSS_SIZE") != "1" or env.get("MASTER_PORT") != _DEEPSPEEDS_PORT:
        return None
    parent = os.getppid()
    try:
        command = Path(f"/proc/{parent}/cmdline").read_bytes()
    except OSError:
        return None
    return parent if b"deepspeed.launcher.launch" in command else None
