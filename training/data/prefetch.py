"""Makes what the next steps need while the current step computes.

    ahead = Prefetcher(make, stride=64)
    batches = ahead.take(position)          # make(position); then makes position + 64, ...

`make` is a pure function of the position, so the results do not depend on what was made ahead. An
error of `make` is raised by the `take` of its position, not before.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

_AHEAD = 2
"""Steps made ahead: with one, a step that is slow to read would leave nothing ready."""

Result = TypeVar("Result")


class Prefetcher(Generic[Result]):
    """Calls a function for positions at a fixed stride, some of them ahead, in a thread."""

    def __init__(self, make: Callable[[int], Result], *, stride: int, ahead: int = _AHEAD) -> None:
        """Nothing is made before the first `take`.

        Args:
            make: Makes what is at a position; called in another thread, one call at a time.
            stride: From one position to the next.
            ahead: How many results are made ahead.
        """
        self._make, self._stride, self._ahead = make, stride, ahead
        self._pending: deque[tuple[int, Future[Result]]] = deque()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")

    def take(self, position: int) -> Result:
        """What `make` gives for this position; another one than expected starts afresh."""
        if self._pending and self._pending[0][0] != position:
            self._discard()
        upcoming = position + len(self._pending) * self._stride
        while len(self._pending) <= self._ahead:
            self._pending.append((upcoming, self._pool.submit(self._make, upcoming)))
            upcoming += self._stride
        return self._pending.popleft()[1].result()

    def close(self) -> None:
        """Drop what was made ahead. Does not wait for the result that is being made."""
        self._discard()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _discard(self) -> None:
        for _, future in self._pending:
            future.cancel()
        self._pending.clear()
