"""AdamW's two groups, its settings, and one update against the formula."""

import pytest
import torch
from torch import nn

from training.config import OptimizerConfig
from training.models.heads import LanguageModel, Verifier
from training.models.shape import ModelShape
from training.optimizer import adamw

SHAPE = ModelShape(
    hidden_size=16, num_layers=2, num_heads=2, ffn_size=32, vocab_size=11, max_tokens=8
)
CONFIG = OptimizerConfig(learning_rate=0.01, weight_decay=0.1, beta1=0.8, beta2=0.95, eps=1e-6)


@pytest.mark.parametrize("kind", [LanguageModel, Verifier])
def test_matrices_are_decayed_and_vectors_are_not(
    kind: type[LanguageModel] | type[Verifier],
) -> None:
    model = kind(SHAPE)
    decayed, rest = adamw(model, CONFIG).param_groups
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert {names[parameter] for parameter in decayed["params"]} == {
        name for name, parameter in model.named_parameters() if parameter.ndim == 2
    }
    assert len(decayed["params"]) + len(rest["params"]) == len(names)


def test_the_settings_are_the_config_s() -> None:
    for group in adamw(LanguageModel(SHAPE), CONFIG).param_groups:
        assert (group["lr"], group["betas"], group["eps"]) == (0.01, (0.8, 0.95), 1e-6)


def test_the_first_update_moves_by_the_rate_and_decays_matrices_only() -> None:
    linear = nn.Linear(2, 2)
    model = nn.Sequential(linear)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = adamw(model, CONFIG)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    optimizer.step()
    # After one step both moments' estimates are the gradient and its square.
    moved = 0.01 * 3.0 / (3.0 + 1e-6)
    torch.testing.assert_close(linear.weight, before["0.weight"] * (1 - 0.01 * 0.1) - moved)
    torch.testing.assert_close(linear.bias, before["0.bias"] - moved)
