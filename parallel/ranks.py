"""Who am I: every launcher's way of saying it becomes one `Ranks`.

`discover()` reads the environment of torchrun, deepspeed, mpirun, srun or plain python
and sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, so that no library
starts a discovery of its own. `Ranks.connect()` then opens the process group.

torch is imported when it is used: an impossible layout is refused before the seconds
that takes.
"""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """This process among the processes of the run."""

    rank: int
    world_size: int
    local_rank: int
    """Position among the processes of this node: which GPU is ours."""
    launcher: str

    @property
    def is_first(self) -> bool:
        """Whether this process speaks for the run: logs, manifests, tracking."""
        return self.rank == 0

    def device(self, wanted: str = "auto") -> "torch.device":
        """The device of this rank: its GPU where there is one, unless `cpu` is wanted.

        Raises:
            RuntimeError: `cuda` is wanted and there is none for this rank.
        """
        import torch

        if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
            return torch.device("cpu")
        if self.local_rank >= torch.cuda.device_count():
            raise RuntimeError(
                f"rank {self.rank} has local rank {self.local_rank} but this node shows "
                f"{torch.cuda.device_count()} GPUs: start as many processes as GPUs, "
                "or set training.device = 'cpu'"
            )
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)

    def connect(self, device: "torch.device", *, timeout_minutes: float = 30.0) -> None:
        """Open the default process group: NCCL for GPUs (gloo beside it), gloo for CPUs."""
        import torch.distributed as dist

        if not dist.is_initialized():
            # Its functions have the default group as it is at import for default arguments:
            # imported later, by whatever library, they would keep it open after `disconnect`.
            import torch.distributed.nn.functional  # noqa: F401  # pyright: ignore[reportUnusedImport]

            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, timeout=timedelta(minutes=timeout_minutes))

    def disconnect(self) -> None:
        """Close the process group. Without it gloo's threads can abort the exit."""
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.gather(None)

    def gather(self, value: Any) -> list[Any]:
        """Every rank's `value`, in rank order, on every rank. Small objects only."""
        if self.world_size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def agree(self, value: bool) -> bool:
        """Whether any rank says yes: the same answer everywhere."""
        return any(self.gather(value))

    def tell(self, word: str) -> None:
        """Leave a word for all ranks, waiting for nobody; `heard` finds it."""
        if self.world_size > 1:
            from torch.distributed import distributed_c10d

            distributed_c10d._get_default_store().set(word, "")

    def heard(self, word: str) -> bool:
        """Whether any rank has left this word."""
        if self.world_size == 1:
            return False
        from torch.distributed import distributed_c10d

        return distributed_c10d._get_default_store().check([word])


def discover(environment: Mapping[str, str] | None = None) -> Ranks:
    """Find this process's rank from its launcher's variables.

    Raises:
        RuntimeError: the launcher's variables contradict each other.
    """
    env = os.environ if environment is None else environment
    for launcher, (rank, size, local) in _LAUNCHERS.items():
        if rank in env and size in env and (launcher != "srun" or _is_srun_step(env)):
            ranks = Ranks(
                rank=int(env[rank]),
                world_size=int(env[size]),
                local_rank=int(env.get(local, 0)),
                launcher=launcher,
            )
            break
    else:
        ranks = Ranks(rank=0, world_size=1, local_rank=0, launcher="python")
    if not 0 <= ranks.rank < ranks.world_size:
        raise RuntimeError(f"{ranks.launcher} gives rank {ranks.rank} of {ranks.world_size} ranks")
    if environment is None:
        _export(ranks)
    return ranks


_LAUNCHERS = {
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),  # deepspeed sets the same
    "mpirun": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    "srun": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
}


def _is_srun_step(env: Mapping[str, str]) -> bool:
    """Whether srun started us: a batch script has the same variables, but is one process."""
    return env.get("SLURM_STEP_ID", "").isdigit()


def _export(ranks: Ranks) -> None:
    os.environ["RANK"] = str(ranks.rank)
    os.environ["WORLD_SIZE"] = str(ranks.world_size)
    os.environ["LOCAL_RANK"] = str(ranks.local_rank)
    if ranks.launcher == "python":
        # One process: any free port will do, so two runs on a node never meet.
        os.environ["MASTER_ADDR"] = "127.0.0.1"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            os.environ["MASTER_PORT"] = str(free.getsockname()[1])
        return
    os.environ.setdefault("MASTER_ADDR", _first_node(os.environ))
    os.environ.setdefault("MASTER_PORT", str(_port(os.environ)))


def _first_node(env: Mapping[str, str]) -> str:
    """The first host of the Slurm job: `gpu[03-05,9]` is `gpu03`; else this machine."""
    nodes = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST", "")
    found = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes)
    return found.group(1) + (found.group(2) or "") if found else "127.0.0.1"


def _port(env: Mapping[str, str]) -> int:
    """A port all ranks work out alike, different for different jobs on a node."""
    job = env.get("SLURM_JOB_ID") or env.get("PMIX_NAMESPACE") or env.get("OMPI_MCA_ess_base_jobid")
    digits = re.sub(r"\D", "", job or "") or "0"
    return 20_000 + int(digits) % 20_000
