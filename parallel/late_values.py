"""Numbers of a device, read without waiting for it.

late = LateValues([loss, norm])        # while the device still computes them
...                                    # give the device its next work
loss, norm = late.read()               # done by now
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class LateValues:
    """A copy of some numbers, which arrives on the CPU once the device has computed them.

    Args:
        values: Numbers, and tensors of one element on one device or the CPU.
    """

    def __init__(self, values: Sequence[Tensor | float]) -> None:
        self._plain = [None if isinstance(value, Tensor) else value for value in values]
        tensors = [value.detach().double() for value in values if isinstance(value, Tensor)]
        self._event: torch.cuda.Event | None = None
        self._copy = torch.stack([value.reshape(()) for value in tensors]) if tensors else None
        if self._copy is not None and self._copy.is_cuda:
            pinned = torch.empty(len(tensors), dtype=torch.float64, pin_memory=True)
            self._copy = pinned.copy_(self._copy, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> list[float]:
        """The numbers, in their order. Waits where they have not arrived."""
        if self._event is not None:
            self._event.synchronize()
        arrived = iter([] if self._copy is None else self._copy.tolist())
        return [next(arrived) if value is None else value for value in self._plain]
