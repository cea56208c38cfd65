"""Numbers that are read late: their order, and that they are copies."""

import math

import torch

from parallel.late_values import LateValues


def test_tensors_and_plain_numbers_keep_their_order() -> None:
    late = LateValues([torch.tensor(1.5), 2.0, torch.tensor([3.0]), math.inf])
    assert late.read() == [1.5, 2.0, 3.0, math.inf]
    assert LateValues([4.0]).read() == [4.0]


def test_what_is_computed_afterwards_changes_nothing() -> None:
    loss = torch.tensor(1.0)
    late = LateValues([loss])
    loss += 1
    assert late.read() == [1.0]
