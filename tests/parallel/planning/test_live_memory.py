"""The peak of live tensors, on real and on fake ones."""

from contextlib import nullcontext

import pytest
import torch
from torch.nn import functional

from parallel.planning.live_memory import LiveMemory
from parallel.torch_internals import FakeTensorMode


@pytest.mark.parametrize("fake", [False, True])
def test_the_gradient_of_logits_is_in_the_peak(fake: bool) -> None:
    with FakeTensorMode() if fake else nullcontext():
        logits = torch.zeros(500, 40, requires_grad=True)
        labels = torch.zeros(500, dtype=torch.long)
        live = LiveMemory()
        with live:
            loss = functional.cross_entropy(logits, labels, reduction="sum")
            after_forward = live.peak_bytes
            loss.backward()
    whole = 500 * 40 * 4
    # Forward: the log-softmax. Backward: beside it the gradients of the two operators.
    assert whole <= after_forward < 1.1 * whole
    assert 3 * whole <= live.peak_bytes < 3.1 * whole


def test_what_is_freed_is_not_counted_again() -> None:
    live = LiveMemory()
    with live:
        for _ in range(5):
            value = torch.zeros(100)
            value.add_(1.0).view(10, 10)
    assert 400 <= live.peak_bytes <= 2 * 400
