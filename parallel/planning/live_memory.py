"""The peak of the memory that tensors take while real code runs.

    with LiveMemory() as live:
        ...                                 # forward and backward pass of a micro-batch
    live.peak_bytes

Works on real and fake tensors. What an operator allocates within itself is not seen.
"""

import weakref
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from parallel.torch_internals import TorchDispatchMode, storage_key


class LiveMemory(TorchDispatchMode):
    """Follows every storage that an operator makes within the block, until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self._sizes: dict[int, int] = {}
        self._live_bytes = 0
        self.peak_bytes = 0
        """The most that was held at a time, without what was there before the block."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {storage_key(value) for value in _tensors((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for value in _tensors(result):
            # A view, or an operator in place, makes no storage.
            if storage_key(value) not in before:
                self._follow(value)
        self.peak_bytes = max(self.peak_bytes, self._live_bytes)
        return result

    def _follow(self, value: Tensor) -> None:
        key = storage_key(value)
        if key in self._sizes:
            return
        storage = value.untyped_storage()
        self._sizes[key] = storage.nbytes()
        self._live_bytes += storage.nbytes()
        weakref.finalize(storage, self._freed, key)

    def _freed(self, key: int) -> None:
        self._live_bytes -= self._sizes.pop(key)


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]
