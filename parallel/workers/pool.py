"""Map a stream with many processes, of this machine or of all nodes; results keep its order.

    with assemble(num_workers=4) as crew:        # None on all ranks of an MPI job but the first
        if crew is not None:
            for result in crew.in_order(worker, items):      # worker(item), in some process

Alone, a process has a pool of processes on its machine; under `mpirun` or `srun --mpi=pmix`
the ranks after the first work for it (mpi.py). What comes out depends on neither. A worker
process that dies is replaced and does its items again; a rank that dies ends the MPI job, as
MPI has it.
"""

import ctypes
import multiprocessing.util
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from functools import partial
from itertools import islice
from multiprocessing import get_context
from typing import Any, Generic, Protocol, TypeVar

from parallel.ranks import discover
from parallel.workers import mpi
from training.config import ConfigError

Item = TypeVar("Item")
Result = TypeVar("Result")
Item_ = TypeVar("Item_", contravariant=True)
Result_ = TypeVar("Result_", covariant=True)

_AHEAD_PER_WORKER = 4
_MAX_DEATHS = 3
"""Processes that may die over the same items: what kills the third kills every one."""
_PR_SET_PDEATHSIG = 1


class Worker(Protocol[Item_, Result_]):
    """What converts items: sent to every process, and opened there."""

    def open(self) -> None:
        """Get ready, once in each process, before the first item."""
        ...

    def close(self) -> None:
        """Let go of what `open` took."""
        ...

    def __call__(self, item: Item_, /) -> Result_:
        """Convert one item."""
        ...


class Crew:
    """Processes of this machine; with one, everything happens in this process."""

    def __init__(self, num_workers: int = 1) -> None:
        """`num_workers` processes, or for 0 as many as this process may use cores."""
        self._num_workers = num_workers or num_cores()

    def in_order(self, worker: Worker[Item, Result], items: Iterable[Item]) -> Iterator[Result]:
        """`worker(item)` for every item, a few items ahead of what is taken.

        Args:
            worker: Picklable, as are items and results.
            items: The stream; read in this process, as fast as results are taken.

        Raises:
            ConfigError: worker processes die, most likely for want of memory.
        """
        if self._num_workers == 1:
            try:
                worker.open()
                yield from map(worker, items)
            finally:
                worker.close()
            return
        with closing(_Processes(worker, self._num_workers)) as processes:
            yield from _ahead(processes.submit, items, self._num_workers * _AHEAD_PER_WORKER)


class _MpiCrew(Crew):
    """The ranks after this one, each with a worker process of its own."""

    def in_order(self, worker: Worker[Item, Result], items: Iterable[Item]) -> Iterator[Result]:
        """As `Crew`'s."""

        def submit(item: Item) -> Callable[[], Result]:
            return executor.submit(_on_rank, item).result

        with mpi.executor(worker) as executor:
            yield from _ahead(submit, items, (mpi.num_ranks() - 1) * _AHEAD_PER_WORKER)


@contextmanager
def assemble(num_workers: int) -> Generator[Crew | None, None, None]:
    """A crew of all processes that the launcher started.

    Args:
        num_workers: Processes where this one was started alone; 0: one per core. Under MPI
            every rank after the first is a worker, and this counts for nothing.

    Yields:
        The crew; None on a rank that has worked for it, when all is done.

    Raises:
        ConfigError: several processes were started without MPI.
    """
    ranks = discover(os.environ)
    if ranks.world_size == 1:
        yield Crew(num_workers)
        return
    mpi.check(ranks)
    if not ranks.is_main:
        # A time limit is the first rank's to answer.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        mpi.serve(_workplace)
        yield None
        return
    print(f"{ranks.world_size - 1} MPI ranks work for the first", flush=True)
    try:
        yield _MpiCrew()
    finally:
        mpi.dismiss()


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last one shorter."""
    stream = iter(items)
    while chunk := list(islice(stream, size)):
        yield chunk


def _ahead(
    submit: Callable[[Item], Callable[[], Result]], items: Iterable[Item], number: int
) -> Iterator[Result]:
    """Results in order, with at most `number` items under way."""
    waiting: deque[Callable[[], Result]] = deque()
    for item in items:
        waiting.append(submit(item))
        if len(waiting) >= number:
            yield waiting.popleft()()
    while waiting:
        yield waiting.popleft()()


class _Processes(Generic[Item, Result]):
    """A pool whose processes may die: what they had is done again by new ones."""

    def __init__(self, worker: Worker[Item, Result], number: int) -> None:
        self._worker, self._number = worker, number
        self._pool = self._started()
        self._tasks: list[_Task] = []

    def submit(self, item: Item) -> Callable[[], Result]:
        """Start on an item; the result is had by a call."""
        try:
            future = self._pool.submit(_work, item)
        except BrokenProcessPool:
            self._replace()
            future = self._pool.submit(_work, item)
        task = _Task(item, future)
        self._tasks.append(task)
        return partial(self._result, task)

    def close(self) -> None:
        """End the processes when they are done with what they are at."""
        self._pool.shutdown(cancel_futures=True)

    def _result(self, task: "_Task") -> Result:
        deaths = 0
        while True:
            try:
                result = task.future.result()
                break
            except BrokenProcessPool as error:
                deaths += 1
                if deaths == _MAX_DEATHS:
                    raise ConfigError(
                        f"worker processes died {deaths} times over the same items, most likely "
                        f"for want of memory: use fewer than {self._number} on this machine "
                        "(data.num_workers, --num-workers, or the ranks of the MPI job)"
                    ) from error
                self._replace()
        self._tasks.remove(task)
        return result

    def _replace(self) -> None:
        """New processes, and everything again that the old ones did not finish."""
        undone = [task for task in self._tasks if not task.is_done]
        print(
            f"a worker process died: {len(undone)} items are done again",
            file=sys.stderr,
            flush=True,
        )
        self._pool.shutdown()
        self._pool = self._started()
        for task in undone:
            task.future = self._pool.submit(_work, task.item)

    def _started(self) -> Executor:
        # Not forked: a fork copies the locks of whatever threads this process has running.
        return ProcessPoolExecutor(
            self._number, get_context("spawn"), initializer=_start, initargs=(self._worker,)
        )


class _Task:
    """An item and what is to come of it."""

    def __init__(self, item: Any, future: "Future[Any]") -> None:
        self.item, self.future = item, future

    @property
    def is_done(self) -> bool:
        """Whether there is a result, or an error that the worker itself raised."""
        future = self.future
        return future.done() and not isinstance(future.exception(), BrokenProcessPool)


_worker: Worker[Any, Any] | None = None
"""The one of this process, where it is a pool's."""
_is_open = False


def _start(worker: Worker[Any, Any]) -> None:
    global _worker
    # They reach all processes of a terminal or a job; the parent ends the pool in its own order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker = worker


def _work(item: Any) -> Any:
    global _is_open
    assert _worker is not None
    if not _is_open:
        # Here and not in `_start`: what goes wrong comes out as the error it is.
        _worker.open()
        # A pool's process ends without `atexit`; finalizers are run.
        multiprocessing.util.Finalize(None, _worker.close, exitpriority=10)
        _is_open = True
    return _worker(item)


_process: "_Processes[Any, Any] | None" = None
"""The one process that works for this rank."""


@contextmanager
def _workplace(worker: Worker[Any, Any]) -> Generator[None, None, None]:
    """A rank's worker process: not the rank itself, which nothing may kill."""
    global _process
    with closing(_Processes(worker, 1)) as _process:
        yield


def _on_rank(item: Any) -> Any:
    """An item's result, on the rank that was asked for it."""
    assert _process is not None
    return _process.submit(item)()
