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
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from training.errors import ConfigError, UserError, is_for_people

if TYPE_CHECKING:
    import torch
    from torch.distributed.distributed_c10d import Store

Result = TypeVar("Result")

_SECONDS_BETWEEN_LOOKS = 0.05
"""Between two looks at an exchange that is waited for."""
_SECONDS_FOR_MESSAGE = 5.0
"""A rank whose peer is gone waits so long for the message that explains it."""
_SECONDS_TO_LEAVE = 10.0
"""Ranks fail apart, by a few seconds on a busy machine or file system."""
SECONDS_FOR_FIRST = 10.0
"""Before they are connected they start apart as well: rank 0 gets so long to report."""
_FAILED, _REPORTED, _LEFT = "failed", "failure reported", "ranks left"
"""Keys of the store: the first rank's message that failed; rank 0 printed it; ranks that end."""

_store: "Store | None" = None
"""The store of this process's group. It outlives the group: that is how ranks explain its end."""


class PeerFailed(UserError):
    """Another rank failed with an error that a person can correct; the message is its."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """This process among the processes of the run."""

    rank: int
    world_size: int
    local_rank: int
    """Position among the processes of this node: which GPU is ours."""
    launcher: str

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the one that logs, tracks and writes manifests."""
        return self.rank == 0

    def device(self, wanted: str = "auto") -> "torch.device":
        """The device of this rank: its GPU where there is one, unless `cpu` is wanted.

        Raises:
            ConfigError: `cuda` is wanted and there is none, or none for this rank.
        """
        import torch

        if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
            return torch.device("cpu")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if self.local_rank >= count:
            raise ConfigError(
                f"training.device = {wanted!r}: rank {self.rank} has local rank "
                f"{self.local_rank}, and PyTorch finds {count} GPUs on this node: start as many "
                "processes as GPUs, or set training.device = 'cpu'"
            )
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)

    def connect(self, device: "torch.device", *, timeout_minutes: float = 30.0) -> None:
        """Open the default process group: NCCL for GPUs (gloo beside it), gloo for CPUs.

        Raises:
            ConfigError: another process has the port where the ranks meet.
        """
        global _store
        import torch.distributed as dist

        if not dist.is_initialized():
            _store = None
            # Its functions have the default group as it is at import for default arguments:
            # imported later, by whatever library, they would keep it open after `disconnect`.
            import torch.distributed.nn.functional  # noqa: F401  # pyright: ignore[reportUnusedImport]

            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            try:
                dist.init_process_group(backend, timeout=timedelta(minutes=timeout_minutes))
            except dist.DistNetworkError as error:
                if taken := port_is_taken(error):
                    raise taken from None
                raise
            if self.world_size > 1:
                from torch.distributed import distributed_c10d

                _store = distributed_c10d._get_default_store()

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

    def any_rank(self, value: bool, *, while_waiting: Callable[[], None]) -> bool:
        """Whether `value` is true on any rank; the result is the same on all ranks.

        A collective. Unlike the others it lets Python handle signals while it waits, and calls
        `while_waiting` repeatedly: the slowest rank may take long.
        """
        if self.world_size == 1:
            return value
        import torch
        import torch.distributed as dist

        result = torch.tensor(int(value))
        work = dist.all_reduce(result, op=dist.ReduceOp.MAX, async_op=True)
        assert work is not None
        while not work.is_completed():
            while_waiting()
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        work.wait()
        return bool(result.item())

    def on_main(self, function: Callable[[], Result]) -> Result:
        """Call `function` on rank 0 alone; every rank gets its result, or raises its error.

        A collective. An error raised on rank 0 alone would leave the other ranks waiting in
        their next collective until it times out.
        """
        outcome: tuple[Result | None, Exception | None] = (None, None)
        if self.is_main:
            try:
                outcome = (function(), None)
            except Exception as error:
                outcome = (None, error)
        result, error = self.gather(outcome)[0]
        if error is not None:
            raise error
        return cast(Result, result)

    def set_flag(self, flag: str) -> None:
        """Set a flag that every rank can read with `flag_is_set`. Does not wait."""
        if _store is not None:
            _store.set(flag, "")

    def flag_is_set(self, flag: str) -> bool:
        """Whether any rank has set this flag."""
        return _store is not None and _store.check([flag])

    @contextmanager
    def failing_together(self) -> Generator[None, None, None]:
        """Leave the block on every rank with the message of the rank that failed.

        When a rank raises an error that a person can correct (a full disk, a damaged file), its
        peers lose their connection to it in some later collective. Here the failing rank leaves
        its message for them, and what they raise is that message instead of the lost connection.

        Raises:
            PeerFailed: another rank failed; names it.
        """
        try:
            yield
        except PeerFailed:
            raise
        except Exception as error:
            if is_for_people(error):
                _leave_message(f"rank {self.rank}: {error}")
            elif isinstance(error, RuntimeError) and (message := _message_of_peer()):
                raise PeerFailed(message) from None
            raise

    def check_peers(self) -> None:
        """Raise here if a rank has failed. Waits for nobody; any thread may call it.

        Raises:
            PeerFailed: one has, with an error that a person can correct.
        """
        if self.flag_is_set(_FAILED) and (message := _message_of_peer()):
            raise PeerFailed(message)

    def report_failure(self, report: Callable[[], None]) -> None:
        """Report an error once for the run, then end together.

        Rank 0 reports. Another rank does only where rank 0 has not failed alike: within ten
        seconds it neither met the same error nor learned of it (it waits in a collective that
        cannot be interrupted, or no process group was opened yet). A launcher ends a job as soon
        as one rank is gone, hence the waiting.

        Args:
            report: Prints the message.
        """
        store = _store
        if store is None:
            if not self.is_main:
                time.sleep(SECONDS_FOR_FIRST)
            if self.local_rank == 0:  # once for a node: the file may be missing on this one
                report()
        elif self.is_main:
            report()
            store.set(_REPORTED, "")
            # Rank 0 serves the store, where the others look for what happened.
            _wait_until(lambda: store.add(_LEFT, 0) == self.world_size - 1)
        else:
            if not _wait_until(lambda: store.check([_REPORTED])):
                report()
            with suppress(RuntimeError):
                store.add(_LEFT, 1)


def _wait_until(condition: Callable[[], bool], *, seconds: float | None = None) -> bool:
    """Whether the condition came true in time, or its store is gone with rank 0."""
    deadline = time.monotonic() + (_SECONDS_TO_LEAVE if seconds is None else seconds)
    try:
        while time.monotonic() < deadline:
            if condition():
                return True
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    except RuntimeError:
        return True
    return False


def _leave_message(message: str) -> None:
    """Leave an error's message for the other ranks, unless another rank was first."""
    if _store is not None:
        with suppress(RuntimeError):  # the store was rank 0's, which may be gone
            _store.compare_set(_FAILED, "", message)


def _message_of_peer() -> str:
    """The message of the rank that failed; empty: none came within some seconds."""
    store = _store
    if store is None:
        return ""
    with suppress(RuntimeError):
        if _wait_until(lambda: store.check([_FAILED]), seconds=_SECONDS_FOR_MESSAGE):
            return store.get(_FAILED).decode()
    return ""


ALONE = Ranks(rank=0, world_size=1, local_rank=0, launcher="python")
"""A process that started by itself, or answers to no other."""


def discover(environment: Mapping[str, str] | None = None) -> Ranks:
    """Find this process's rank from its launcher's variables.

    Raises:
        ConfigError: the launcher is an unknown one, does not say where ranks can meet, or its
            variables contradict each other.
    """
    env = os.environ if environment is None else environment
    for launcher, (rank, size, local) in _LAUNCHERS.items():
        if rank in env and size in env and (launcher != "srun" or _is_srun_step(env)):
            ranks = Ranks(
                rank=_number(env, rank),
                world_size=_number(env, size),
                local_rank=_number(env, local) if local in env else 0,
                launcher=launcher,
            )
            break
    else:
        if "PMI_SIZE" in env and _number(env, "PMI_SIZE") > 1:
            # Else each of them would train alone, all in one folder.
            raise ConfigError(
                f"started {env['PMI_SIZE']} times by an mpirun that is not Open MPI's: use Open "
                "MPI's, srun, torchrun or deepspeed"
            )
        ranks = ALONE
    if not 0 <= ranks.rank < ranks.world_size:
        raise ConfigError(
            f"{ranks.launcher} gives rank {ranks.rank} of {ranks.world_size} ranks: unset its "
            "variables, or start the ranks by a launcher"
        )
    if environment is None:
        _export(ranks)
    return ranks


def _number(env: Mapping[str, str], name: str) -> int:
    try:
        return int(env[name])
    except ValueError:
        raise ConfigError(
            f"the environment has {name} = {env[name]!r}, not a number: unset it, or start the "
            "ranks by a launcher"
        ) from None


_LAUNCHERS = {
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),  # deepspeed sets the same
    "mpirun": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    "srun": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
}
_SPECIAL_STEPS = 0xFFFF_FFF0
"""Slurm's numbers from here on are the batch script and a shell that salloc opened."""
_DEEPSPEEDS_PORT = "29500"


def _is_srun_step(env: Mapping[str, str]) -> bool:
    """Whether srun started us: a batch script has the same variables, but is one process."""
    step = env.get("SLURM_STEP_ID", "")
    return step.isdigit() and int(step) < _SPECIAL_STEPS


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
    if ranks.launcher == "torchrun":
        if number := _deepspeed_launcher(os.environ):
            os.environ["MASTER_PORT"] = str(_port(number, 0))
        # Both set these; a person who sets RANK by hand may not.
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", _DEEPSPEEDS_PORT)
        return
    # What a person has set wins; slurm/site.sh leaves MASTER_ADDR empty.
    if not os.environ.get("MASTER_ADDR"):
        os.environ["MASTER_ADDR"] = _first_node(os.environ, ranks.launcher)
    if not os.environ.get("MASTER_PORT"):
        os.environ["MASTER_PORT"] = str(_port(*_run_and_part(os.environ, ranks.launcher)))


def _first_node(env: Mapping[str, str], launcher: str) -> str:
    """The node of rank 0, by a name that the other nodes know.

    The first of a Slurm job, which is `gpu03` of `gpu[03-05,9]`; without Slurm mpirun's own
    host, which Open MPI 5 tells all ranks.

    Raises:
        ConfigError: mpirun has several nodes and names none of them.
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
            f"{launcher} starts ranks on several nodes and does not tell which is the first: "
            "set MASTER_ADDR to it (mpirun -x MASTER_ADDR=NODE ...)"
        )
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", first.group())


def _run_and_part(env: Mapping[str, str], launcher: str) -> tuple[int, int]:
    """What all ranks of a run know, and no other run on the node has."""
    if launcher == "srun":
        return int(env.get("SLURM_JOB_ID", 0)), int(env["SLURM_STEP_ID"])
    # Open MPI 5: `prterun-HOST-PROCESS@1`; 4: one number, 65536 times a hash of both, plus 1.
    name = env.get("PMIX_NAMESPACE") or env.get("OMPI_MCA_ess_base_jobid") or "0"
    numbers = [int(digits) for digits in re.findall(r"\d+", name)]
    run, part = numbers[-2:] if len(numbers) > 1 else divmod(numbers[-1], 1 << 16)
    return run, part


def _port(run: int, part: int) -> int:
    """A port for one part (a Slurm job's step) of a run, of 20000 to 29999.

    Below 32768: from there on the system gives ports to outgoing connections. Runs beside each
    other have numbers beside each other, and the parts of each are far apart.
    """
    return 20_000 + (run + 6_181 * part) % 10_000


def _deepspeed_launcher(env: Mapping[str, str]) -> int | None:
    """The process that started all ranks, where deepspeed left its default port; else None.

    Two `deepspeed` on one machine would meet there.
    """
    if env.get("CROSS_SIZE") != "1" or env.get("MASTER_PORT") != _DEEPSPEEDS_PORT:
        return None
    parent = os.getppid()
    try:
        command = Path(f"/proc/{parent}/cmdline").read_bytes()
    except OSError:
        return None
    return parent if b"deepspeed.launcher.launch" in command else None


def port_is_taken(error: Exception) -> ConfigError | None:
    """What to do, where rank 0 could not open its port because somebody has it; else None."""
    if "EADDRINUSE" not in str(error):
        return None
    return ConfigError(
        f"port {os.environ['MASTER_PORT']} of {socket.gethostname()}, where the ranks of this run "
        "would meet, is taken by another process, most likely another run: choose one of 20000 to "
        "29999 (deepspeed --master_port, torchrun --master-port, mpirun -x MASTER_PORT=...; under "
        "Slurm `export MASTER_PORT=...` before sbatch or srun)"
    )
