"""The ranks of an MPI job as workers of rank 0, through `mpi4py.futures`.

    # rank 0                                     # the other ranks
    with executor(worker) as pool:               serve(worker_context)
        pool.submit(function, item)
    shutdown()

The one module that imports mpi4py, and only under a launcher that provides MPI: training ranks
communicate through torch.distributed alone.
"""

import os
import time
from collections.abc import Callable, Generator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, cast

from parallel.ranks import Ranks
from training.config import ConfigError

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

_SECONDS_BETWEEN_LOOKS = 0.02
"""An idle rank sleeps: MPI's blocking receive would keep a core busy."""


def check(ranks: Ranks) -> None:
    """Check that all processes of the launcher are ranks of one MPI job.

    Raises:
        ConfigError: they are not.
    """
    has_mpi = any(name in os.environ for name in ("PMIX_RANK", "PMI_RANK"))
    size = num_ranks() if has_mpi else 1
    if size != ranks.world_size:
        raise ConfigError(
            f"{ranks.launcher} started {ranks.world_size} processes, but MPI has {size} rank(s): "
            "start them with `mpirun -np N` or `srun --mpi=pmix`, or start one process, which "
            "uses worker processes of its own"
        )


def num_ranks() -> int:
    """Ranks of the job, rank 0 included."""
    return _world().Get_size()


@contextmanager
def executor(worker: Any) -> Generator[Executor, None, None]:
    """On rank 0: the other ranks as an executor.

    Args:
        worker: Sent to every rank once, for its `worker_context`.
    """
    from mpi4py.futures import MPICommExecutor, MPIPoolExecutor

    _send(worker)
    with MPICommExecutor(_world(), root=0) as entered:
        pool = cast(MPIPoolExecutor, entered)  # None only on the other ranks
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def serve(worker_context: Callable[[Any], AbstractContextManager[None]]) -> None:
    """On the other ranks: serve every `executor`, in `worker_context(worker)`, until `shutdown`."""
    from mpi4py.futures import MPICommExecutor

    world = _world()
    while True:
        while not world.iprobe(source=0):
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        worker = world.recv(source=0)
        if worker is None:
            return
        with worker_context(worker), MPICommExecutor(world, root=0):
            pass  # entering serves, and returns when rank 0 closes its executor


def shutdown() -> None:
    """On rank 0: let the other ranks return from `serve`."""
    _send(None)


def _send(worker: Any) -> None:
    world = _world()
    for rank in range(1, world.Get_size()):
        world.send(worker, dest=rank)


def _world() -> "Intracomm":
    from mpi4py import MPI

    return MPI.COMM_WORLD
