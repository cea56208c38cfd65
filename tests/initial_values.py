"""Whole models with initial values, for tests of one process."""

import torch
from torch import nn

from training.models.parts import initial_value


@torch.no_grad()
def initialise(model: nn.Module, *, seed: int, std: float = 0.02) -> None:
    """Give every parameter its initial value: normal weights, zero biases, unit norms."""
    for name, parameter in model.named_parameters():
        parameter.copy_(initial_value(name, parameter.shape, seed=seed, std=std))
