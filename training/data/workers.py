"""Map a stream with several processes; the results come in the stream's order.

    for result in in_order(worker, items, num_workers=4):    # worker(item), in its process

What comes out does not depend on the number of processes. With one, nothing is started
and everything happens in this process.
"""

import multiprocessing.util
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context
from typing import Any, Protocol, TypeVar

from training.config import ConfigError

Item = TypeVar("Item")
Result = TypeVar("Result")
Item_ = TypeVar("Item_", contravariant=True)
Result_ = TypeVar("Result_", covariant=True)

_AHEAD_PER_WORKER = 4


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


def num_workers(wanted: int) -> int:
    """`wanted`, or for 0 the cores that this process may use."""
    return wanted or len(os.sched_getaffinity(0))


def in_chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last one shorter."""
    stream = iter(items)
    while chunk := list(islice(stream, size)):
        yield chunk


def in_order(
    worker: Worker[Item, Result], items: Iterable[Item], *, num_workers: int
) -> Iterator[Result]:
    """`worker(item)` for every item, a few items ahead of what is taken.

    Args:
        worker: Picklable, as are items and results.
        items: The stream; read in this process, as fast as results are taken.
        num_workers: Processes.

    Raises:
        ConfigError: a worker died, most likely for want of memory.
    """
    if num_workers == 1:
        try:
            worker.open()
            yield from map(worker, items)
        finally:
            worker.close()
        return
    # Not forked: a fork copies the locks of whatever threads this process has running.
    pool = ProcessPoolExecutor(
        num_workers, get_context("spawn"), initializer=_start, initargs=(worker,)
    )
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(_work, item))
            if len(waiting) >= num_workers * _AHEAD_PER_WORKER:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise ConfigError(
            f"one of {num_workers} worker processes died, most likely for want of memory: "
            "set a smaller data.num_workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_worker: Worker[Any, Any] | None = None
"""The one of this process, where it is a pool's."""


def _start(worker: Worker[Any, Any]) -> None:
    global _worker
    # Ctrl-C reaches the whole process group; the parent ends the pool in its own order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    worker.open()
    # A pool's process ends without `atexit`; finalizers are run.
    multiprocessing.util.Finalize(None, worker.close, exitpriority=10)
    _worker = worker


def _work(item: Any) -> Any:
    assert _worker is not None
    return _worker(item)
