"""Map a function over a stream with many processes, on one machine or over MPI, in order.

    with worker_pool(num_workers=4) as pool:        # None on the other ranks of an MPI job
        if pool is not None:
            for result in pool.imap(worker, items):      # worker(item), in some process

A process that was started alone uses a pool of processes on its machine; under `mpirun` or
`srun --mpi=pmix` rank 0 uses the other ranks (mpi.py). The results are the same. A worker
process that dies is replaced and its unfinished items are repeated; a rank that dies ends the
MPI job.
"""

import logging
import multiprocessing.util
import os
import signal
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
from parallel.spawn import die_with_parent
from parallel.workers import mpi
from training.config import ConfigError

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")
Item_ = TypeVar("Item_", contravariant=True)
Result_ = TypeVar("Result_", covariant=True)

_AHEAD_PER_WORKER = 4
_MAX_DEATHS = 3
"""Times that the workers of one item may die before it is an error and not bad luck."""


class Worker(Protocol[Item_, Result_]):
    """The function that is mapped, with its resources: pickled to every process, opened there."""

    def open(self) -> None:
        """Acquire resources; called once in each process, before its first item."""
        ...

    def close(self) -> None:
        """Release what `open` acquired."""
        ...

    def __call__(self, item: Item_, /) -> Result_:
        """The result of one item."""
        ...


class WorkerPool:
    """A pool of processes on this machine; a pool of one works in the calling process."""

    def __init__(self, num_workers: int = 1) -> None:
        """`num_workers` processes; 0: one per core that this process may use."""
        self._num_workers = num_workers or num_cores()

    def imap(self, worker: Worker[Item, Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield `worker(item)` for every item, in order, working a few items ahead.

        Args:
            worker: Must be picklable, as must items and results.
            items: The stream; read in this process, as fast as results are consumed.

        Raises:
            ConfigError: worker processes die repeatedly, most likely out of memory.
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


class _MpiWorkerPool(WorkerPool):
    """The other ranks of an MPI job, each with a worker process of its own."""

    def imap(self, worker: Worker[Item, Result], items: Iterable[Item]) -> Iterator[Result]:
        """See `WorkerPool.imap`."""

        def submit(item: Item) -> Callable[[], Result]:
            return executor.submit(_on_rank, item).result

        with mpi.executor(worker) as executor:
            yield from _ahead(submit, items, (mpi.num_ranks() - 1) * _AHEAD_PER_WORKER)


@contextmanager
def worker_pool(num_workers: int) -> Generator[WorkerPool | None, None, None]:
    """The pool of this machine's processes, or of the ranks of an MPI job.

    Args:
        num_workers: Processes where this one was started alone; 0: one per core. Ignored under
            MPI, where every rank but 0 is a worker.

    Yields:
        The pool; on the worker ranks of an MPI job None, after rank 0 has closed the pool.

    Raises:
        ConfigError: several processes were started without MPI.
    """
    ranks = discover(os.environ)
    if ranks.world_size == 1:
        yield WorkerPool(num_workers)
        return
    mpi.check(ranks)
    if not ranks.is_main:
        # Rank 0 handles Slurm's warning of the time limit.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        mpi.serve(_rank_worker)
        yield None
        return
    logger.info(f"rank 0 maps over the {ranks.world_size - 1} other MPI ranks")
    try:
        yield _MpiWorkerPool()
    finally:
        mpi.shutdown()


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last one shorter."""
    stream = iter(items)
    while chunk := list(islice(stream, size)):
        yield chunk


def _ahead(
    submit: Callable[[Item], Callable[[], Result]], items: Iterable[Item], number: int
) -> Iterator[Result]:
    """Results in order, with at most `number` items submitted and not consumed."""
    waiting: deque[Callable[[], Result]] = deque()
    for item in items:
        waiting.append(submit(item))
        if len(waiting) >= number:
            yield waiting.popleft()()
    while waiting:
        yield waiting.popleft()()


class _Processes(Generic[Item, Result]):
    """A pool that survives the death of its processes: new ones repeat the unfinished items."""

    def __init__(self, worker: Worker[Item, Result], number: int) -> None:
        self._worker, self._number = worker, number
        self._pool = self._start_pool()
        self._tasks: list[_Task] = []

    def submit(self, item: Item) -> Callable[[], Result]:
        """Submit an item; returns a function that waits for its result."""
        try:
            future = self._pool.submit(_work, item)
        except BrokenProcessPool:
            self._replace()
            future = self._pool.submit(_work, item)
        task = _Task(item, future)
        self._tasks.append(task)
        return partial(self._result, task)

    def close(self) -> None:
        """End the processes after their current items."""
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
                        f"worker processes died {deaths} times on the same items, most likely "
                        f"out of memory: use fewer than {self._number} on this machine "
                        "(data.num_workers, --num-workers, or the ranks of the MPI job)"
                    ) from error
                self._replace()
        self._tasks.remove(task)
        return result

    def _replace(self) -> None:
        """Start new processes and resubmit what the old ones did not finish."""
        unfinished = [task for task in self._tasks if not task.is_done]
        logger.warning(f"a worker process died: repeating {len(unfinished)} items")
        self._pool.shutdown()
        self._pool = self._start_pool()
        for task in unfinished:
            task.future = self._pool.submit(_work, task.item)

    def _start_pool(self) -> Executor:
        # Not forked: a fork copies the locks of this process's other threads as they are held.
        return ProcessPoolExecutor(
            self._number, get_context("spawn"), initializer=_start, initargs=(self._worker,)
        )


class _Task:
    """An item and the future of its result."""

    def __init__(self, item: Any, future: "Future[Any]") -> None:
        self.item, self.future = item, future

    @property
    def is_done(self) -> bool:
        """Whether there is a result, or an error raised by the worker itself."""
        future = self.future
        return future.done() and not isinstance(future.exception(), BrokenProcessPool)


_worker: Worker[Any, Any] | None = None
"""In a process of a pool: its worker."""
_is_open = False


def _start(worker: Worker[Any, Any]) -> None:
    global _worker
    # These signals reach all processes of a terminal or a job; the parent shuts the pool down.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    die_with_parent()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker = worker


def _work(item: Any) -> Any:
    global _is_open
    assert _worker is not None
    if not _is_open:
        # Not in `_start`: the pool replaces an initializer's error by BrokenProcessPool.
        _worker.open()
        # A pool's process ends without `atexit`, but runs multiprocessing's finalizers.
        multiprocessing.util.Finalize(None, _worker.close, exitpriority=10)
        _is_open = True
    return _worker(item)


_process: "_Processes[Any, Any] | None" = None
"""On a worker rank of an MPI job: its one worker process."""


@contextmanager
def _rank_worker(worker: Worker[Any, Any]) -> Generator[None, None, None]:
    """A rank's worker process. The rank itself does no work: its death would end the MPI job."""
    global _process
    with closing(_Processes(worker, 1)) as _process:
        yield


def _on_rank(item: Any) -> Any:
    """An item's result, computed on this rank."""
    assert _process is not None
    return _process.submit(item)()
