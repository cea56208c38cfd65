"""Python's garbage collection at fixed steps, so that no rank stops for it while others compute.

with GarbageCollection() as garbage:
    for step in range(1, 1 + steps):
        ...
        garbage.collect_if_due(step)
        with garbage.automatic(): ...        # work of another kind: an evaluation
"""

import gc
from collections.abc import Generator
from contextlib import contextmanager

from typing_extensions import Self

EVERY_STEPS = 100


class GarbageCollection:
    """Turns automatic collection off within the block.

    What is there when the block begins is never looked at again within it, so that a collection
    takes milliseconds: libraries hold some 10^6 objects.
    """

    def __enter__(self) -> Self:
        gc.collect()
        gc.freeze()
        gc.disable()
        return self

    def __exit__(self, *_: object) -> None:
        gc.enable()
        gc.unfreeze()

    def collect_if_due(self, step: int) -> None:
        """Collect at every hundredth step."""
        if step % EVERY_STEPS == 0:
            gc.collect()

    @contextmanager
    def automatic(self) -> Generator[None, None, None]:
        """Within the block Python collects when it wants to."""
        gc.enable()
        try:
            yield
        finally:
            gc.collect()
            gc.disable()
