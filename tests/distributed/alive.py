# pyright: reportPrivateUsage=false
"""Which bytes of tensors are alive while something runs, looked at after every torch operation."""

import gc
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Alive(TorchDispatchMode):
    """Within the block: the most bytes alive at once of tensors that were not there before.

    Every storage that an operation reads or makes is followed until it is freed, whoever
    holds it. What one operation allocates and frees within itself is not seen.

    Args:
        waits: For what a collective's thread frees a moment after its end.
    """

    def __init__(self, *, waits: bool = False) -> None:
        super().__init__()
        self._num_looks = 4 if waits else 0
        there = [value for value in gc.get_objects() if issubclass(type(value), Tensor)]
        # A storage that is referred to, if weakly, leaves its key to no other.
        self._before = {
            _key(value): StorageWeakRef(value.untyped_storage())
            for value in there
            if value.device.type != "meta"
        }
        self._followed: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak_bytes = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, result)):
            if isinstance(value, Tensor) and value.device.type != "meta":
                self._follow(value)
        for _ in range(self._num_looks):
            if self._now_bytes() <= self.peak_bytes:
                return result
            time.sleep(0.01)
        self.peak_bytes = max(self.peak_bytes, self._now_bytes())
        return result

    def _now_bytes(self) -> int:
        alive = {key: held for key, held in self._followed.items() if not held[0].expired()}
        self._followed = alive
        return sum(nbytes for _, nbytes in alive.values())

    def _follow(self, value: Tensor) -> None:
        key, storage = _key(value), value.untyped_storage()
        if key not in self._before and key not in self._followed:
            self._followed[key] = (StorageWeakRef(storage), storage.nbytes())


def _key(value: Tensor) -> int:
    return value.untyped_storage()._cdata


def held_bytes(values: Iterable[Tensor]) -> int:
    """Bytes of tensors' storages, each counted once; the meta device holds none."""
    held = {_key(value): value for value in values if value.device.type != "meta"}
    return sum(value.untyped_storage().nbytes() for value in held.values())
