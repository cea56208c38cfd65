"""Ranks of an MPI job that work for the first: `mpi4py.futures` over what mpirun or srun started.

    if first:                                    on the others:
        with executor(worker) as pool:               serve(workplace)
            pool.submit(function, item)
        dismiss()

The one module that imports mpi4py, and only where a launcher speaks MPI: the training ranks
never do (they meet through torch.distributed).
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
"""An idle rank sleeps: MPI's own waiting keeps a core busy."""


def check(ranks: Ranks) -> None:
    """See that all processes of the launcher are ranks of one MPI job.

    Raises:
        ConfigError: they are not.
    """
    speaks_mpi = any(name in os.environ for name in ("PMIX_RANK", "PMI_RANK"))
    size = num_ranks() if speaks_mpi else 1
    if size != ranks.world_size:
        raise ConfigError(
            f"{ranks.launcher} started {ranks.world_size} processes that do not know each other "
            "through MPI: start them by `mpirun -np N` or `srun --mpi=pmix`, or only one, which "
            "has worker processes of its own"
        )


def num_ranks() -> int:
    """Ranks of the job, the first included."""
    return _world().Get_size()


@contextmanager
def executor(worker: Any) -> Generator[Executor, None, None]:
    """On the first rank: the others as an executor, each prepared by `worker`.

    Args:
        worker: Sent to every rank once, for the `workplace` that it serves in.
    """
    from mpi4py.futures import MPICommExecutor, MPIPoolExecutor

    _send(worker)
    with MPICommExecutor(_world(), root=0) as entered:
        pool = cast(MPIPoolExecutor, entered)  # this is the root
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def serve(workplace: Callable[[Any], AbstractContextManager[None]]) -> None:
    """On the other ranks: work in `workplace(worker)` for every `executor`, until dismissed."""
    from mpi4py.futures import MPICommExecutor

    world = _world()
    while True:
        while not world.iprobe(source=0):
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        worker = world.recv(source=0)
        if worker is None:
            return
        with workplace(worker), MPICommExecutor(world, root=0):
            pass  # It serves on entering, and comes back when the first rank is through.


def dismiss() -> None:
    """On the first rank: the others need not wait for another executor."""
    _send(None)


def _send(worker: Any) -> None:
    world = _world()
    for rank in range(1, world.Get_size()):
        world.send(worker, dest=rank)


def _world() -> "Intracomm":
    from mpi4py import MPI

    return MPI.COMM_WORLD
