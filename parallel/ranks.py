"""This process among the processes of a run: its rank, and what all ranks do together.

    ranks = discover()                  # under torchrun, deepspeed, mpirun, srun or plain python
    ranks.connect(ranks.device())       # opens the default process group
    if ranks.is_main: ...

`launchers.py` reads the launchers' variables. torch is imported where it is used, which takes
seconds: an impossible layout is refused before that.
"""

import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from parallel import launchers
from training.config.run import COLLECTIVE_MINUTES
from training.errors import ConfigError, UserError, is_for_people

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup
    from torch.distributed.distributed_c10d import Store

Result = TypeVar("Result")

_SECONDS_BETWEEN_LOOKS = 0.05
"""Between two polls of something that is waited for."""
_SECONDS_FOR_MESSAGE = 5.0
"""How long a rank that lost a peer waits for the message that explains it."""
_SECONDS_TO_LEAVE = 10.0
"""Ranks fail at different times, seconds apart on a busy machine or file system."""
SECONDS_FOR_FIRST = 10.0
"""Before the ranks are connected: how long the other ranks give rank 0 to report an error."""
_FAILED, _REPORTED, _LEFT = "failed", "failure reported", "ranks left"
"""Keys of the store: the first failed rank's message; rank 0 has printed it; ranks that ended."""

_MANY_FILES = 65_536

_store: "Store | None" = None
"""The store of the process group. It outlives the group, so ranks can still explain a failure."""
_cpu_group: "ProcessGroup | None" = None
"""All ranks over gloo, for objects and numbers on the CPU; None: the default group is that."""
_timeout = timedelta(minutes=COLLECTIVE_MINUTES)
"""Of the collectives of the default group, and of every group that is made beside it."""


def _allow_many_files() -> None:
    """Raise this process's limit of open files as far as it may, at most to `_MANY_FILES`.

    A gloo group holds a socket to each of its ranks, and a limit of 1,024 is usual.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, _MANY_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class PeerFailed(UserError):
    """Another rank failed with an error that a user can correct; carries that rank's message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """This process's rank, and the collectives of Python objects among all ranks."""

    rank: int
    world_size: int
    local_rank: int
    """Among the processes of this node; the index of this rank's GPU."""
    launcher: str

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the one that logs, tracks and writes manifests."""
        return self.rank == 0

    def device(self, requested: str = "auto") -> "torch.device":
        """The device of this rank: its GPU if there is one, unless `cpu` is requested.

        Raises:
            ConfigError: `cuda` is requested and there is no GPU, or none for this rank.
        """
        import torch

        if requested == "cpu" or (requested == "auto" and not torch.cuda.is_available()):
            return torch.device("cpu")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if self.local_rank >= count:
            raise ConfigError(
                f"training.device = {requested!r}: rank {self.rank} has local rank "
                f"{self.local_rank}, and PyTorch finds {count} GPUs on this node: start as many "
                "processes as GPUs, or set training.device = 'cpu'"
            )
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)

    def connect(
        self, device: "torch.device", *, timeout_minutes: float = COLLECTIVE_MINUTES
    ) -> None:
        """Open the default process group: NCCL for GPUs, gloo for CPUs.

        A group that is made without naming a backend takes the default group's. So on GPUs only
        one group holds gloo's sockets, the one for numbers and objects on the CPU; a default
        group of both backends would give a mesh of sockets to every group.

        Args:
            device: This rank's.
            timeout_minutes: Of collectives, in this group and in all made beside it.

        Raises:
            ConfigError: another process uses the port of the rendezvous.
        """
        global _store, _cpu_group, _timeout
        import torch.distributed as dist

        if not dist.is_initialized():
            _store, _cpu_group, _timeout = None, None, timedelta(minutes=timeout_minutes)
            # Its functions take the default group, as it is at import, as a default argument:
            # a later import by some library would keep the group open after `disconnect`.
            import torch.distributed.nn.functional  # noqa: F401  # pyright: ignore[reportUnusedImport]

            _allow_many_files()
            on_gpu = device.type == "cuda"
            try:
                dist.init_process_group("nccl" if on_gpu else "gloo", timeout=_timeout)
            except dist.DistNetworkError as error:
                if taken := port_is_taken(error):
                    raise taken from None
                raise
            if on_gpu:
                made = dist.new_group(backend="gloo", timeout=_timeout)
                _cpu_group = cast("ProcessGroup", made)
            if self.world_size > 1:
                from parallel.torch_internals import default_store

                _store = default_store()

    @property
    def timeout(self) -> timedelta:
        """After which a collective fails, in every process group of the run."""
        return _timeout

    def disconnect(self) -> None:
        """Close the process groups. Without it gloo's threads can abort the exit."""
        global _cpu_group
        _cpu_group = None
        if dist := sys.modules.get("torch.distributed"):  # else there is none to close
            if dist.is_initialized():
                dist.destroy_process_group()

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world_size > 1:
            import torch.distributed as dist

            dist.barrier(_cpu_group)

    def gather(self, value: Any) -> list[Any]:
        """Every rank's `value`, in rank order, on every rank. Small objects only.

        Every rank receives as many bytes as the largest value has, from each rank: what only
        rank 0 has is for `broadcast`.
        """
        if self.world_size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=_cpu_group)
        return values

    def broadcast(self, value: Result) -> Result:
        """Rank 0's `value` on every rank; those of the others are ignored."""
        if self.world_size == 1:
            return value
        import torch.distributed as dist

        values = [value if self.is_main else None]
        dist.broadcast_object_list(values, src=0, group=_cpu_group)
        return cast(Result, values[0])

    def start_sum(self, values: Sequence[float]) -> Callable[[], list[float]]:
        """Begin to add numbers up over the ranks, on the CPU: a GPU computes meanwhile.

        A collective. float64 holds counts of tokens exactly.

        Returns:
            A function that waits for the sums.
        """
        if self.world_size == 1:
            return lambda: list(values)
        import torch
        import torch.distributed as dist

        total = torch.tensor(values, dtype=torch.float64)
        work = dist.all_reduce(total, group=_cpu_group, async_op=True)
        assert work is not None

        def finish() -> list[float]:
            work.wait()
            return total.tolist()

        return finish

    def sum(self, values: Sequence[float]) -> list[float]:
        """`start_sum`, waited for."""
        return self.start_sum(values)()

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
        work = dist.all_reduce(result, op=dist.ReduceOp.MAX, group=_cpu_group, async_op=True)
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
        result, error = self.broadcast(outcome)
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
        """Raise the failed rank's message on every rank.

        When a rank raises an error that a user can correct (a full disk, a damaged file), its
        peers only lose their connection to it in some later collective. Here the failing rank
        stores its message, and its peers raise that message instead of the connection error.

        Raises:
            PeerFailed: another rank failed; the message names the rank.
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
        """Raise if another rank has failed. Does not wait; any thread may call it.

        Raises:
            PeerFailed: a rank failed with an error that a user can correct.
        """
        if self.flag_is_set(_FAILED) and (message := _message_of_peer()):
            raise PeerFailed(message)

    def report_failure(self, report: Callable[[], None]) -> None:
        """Print an error once for the run, and let the ranks exit together.

        Rank 0 prints it. Another rank prints it only where rank 0 has not failed within ten
        seconds: rank 0 may wait in a collective that cannot be interrupted, or no process group
        was opened yet. A launcher kills a job as soon as one rank exits, hence the waiting.

        Args:
            report: Prints the message.
        """
        store = _store
        if store is None:
            if not self.is_main:
                time.sleep(SECONDS_FOR_FIRST)
            if self.local_rank == 0:  # once per node: a file may be missing on this one
                report()
        elif self.is_main:
            report()
            store.set(_REPORTED, "")
            # Rank 0 serves the store, which the other ranks still read.
            _wait_until(lambda: store.add(_LEFT, 0) == self.world_size - 1)
        else:
            if not _wait_until(lambda: store.check([_REPORTED])):
                report()
            with suppress(RuntimeError):
                store.add(_LEFT, 1)


def _wait_until(condition: Callable[[], bool], *, seconds: float | None = None) -> bool:
    """Whether the condition became true in time, or the store ended with rank 0."""
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
    """Store an error's message for the other ranks, unless another rank was first."""
    if _store is not None:
        with suppress(RuntimeError):  # rank 0 serves the store and may have ended
            _store.compare_set(_FAILED, "", message)


def _message_of_peer() -> str:
    """The message of the rank that failed; empty if none arrives within some seconds."""
    store = _store
    if store is None:
        return ""
    with suppress(RuntimeError):
        if _wait_until(lambda: store.check([_FAILED]), seconds=_SECONDS_FOR_MESSAGE):
            return store.get(_FAILED).decode()
    return ""


ALONE = Ranks(rank=0, world_size=1, local_rank=0, launcher="python")
"""A process without other ranks."""


def discover(environment: Mapping[str, str] | None = None) -> Ranks:
    """Find this process's rank from its launcher's variables.

    Args:
        environment: Read instead of `os.environ`, which is then left as it is.

    Raises:
        ConfigError: the launcher is unknown or does not say where ranks can meet, or its
            variables contradict each other.
    """
    process = launchers.identify(os.environ if environment is None else environment)
    if environment is None:
        launchers.export(process)
    return Ranks(**asdict(process))


def port_is_taken(error: Exception) -> ConfigError | None:
    """The error to raise where rank 0 could not open its port because it is in use; else None."""
    if "EADDRINUSE" not in str(error):
        return None
    return ConfigError(
        f"port {os.environ['MASTER_PORT']} of {socket.gethostname()}, where the ranks of this run "
        "would connect, is used by another process, most likely another run: choose one of 20000 "
        "to 29999 (deepspeed --master_port, torchrun --master-port, mpirun -x MASTER_PORT=...; "
        "under Slurm `export MASTER_PORT=...` before sbatch or srun)"
    )
