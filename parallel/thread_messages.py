"""What background threads of the ranks tell rank 0, over the process group's store.

    messages = ThreadMessages(ranks)
    messages.send("save 3", facts)                          # on each rank
    found = messages.receive("save 3", cancelled=...)       # on rank 0: every rank's

A thread may not use the process group: its collectives would meet those of the training loop in
another order on each rank. The store has no order.
"""

import json
import time
from collections.abc import Callable
from typing import Any

from parallel.ranks import Ranks

_SECONDS_BETWEEN_LOOKS = 0.1


class ThreadMessages:
    """Messages of one thread of each rank to that of rank 0.

    Args:
        ranks: The processes of the run, connected.
    """

    def __init__(self, ranks: Ranks) -> None:
        from parallel.torch_internals import default_store  # torch takes seconds to import

        self._ranks = ranks
        self._store: Any = default_store() if ranks.world_size > 1 else None
        self._mine: dict[str, Any] = {}

    def send(self, key: str, value: Any) -> None:
        """Leave a JSON value for rank 0, under a key that is used once. Does not wait.

        Raises:
            RuntimeError: rank 0, which serves the store, has ended.
        """
        if self._ranks.is_main:
            self._mine[key] = value
        else:
            self._store.set(f"{key}, rank {self._ranks.rank}", json.dumps(value))

    def receive(self, key: str, *, cancelled: Callable[[], bool]) -> list[Any]:
        """On rank 0: the values of all ranks, in rank order; waits for them.

        Raises:
            InterruptedError: `cancelled` became true.
        """
        found = [self._mine.pop(key)]
        for rank in range(1, self._ranks.world_size):
            name = f"{key}, rank {rank}"
            # Not `wait`, which would lock the store against the other threads.
            while not self._store.check([name]):
                if cancelled():
                    raise InterruptedError(f"rank {rank} has sent nothing")
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            found.append(json.loads(self._store.get(name)))
            self._store.delete_key(name)
        return found
