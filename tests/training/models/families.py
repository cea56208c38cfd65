"""A tiny model of each architecture, for tests of layouts, folders and sampling."""

from typing import Any

import torch

from training.config import ModelConfig
from training.models.build import shape_of
from training.models.shape import ModelShape

_SIZES: dict[str, Any] = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "ffn_size": 48}
_SCALING: dict[str, Any] = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_tokens": 16,
}

FAMILIES: dict[str, dict[str, Any]] = {
    "phi": {},
    "smollm2": {"architecture": "llama", "num_key_value_heads": 2, "tied_head": True},
    "llama3": {
        "architecture": "llama",
        "num_key_value_heads": 2,
        "rope_theta": 5e5,
        "rope_scaling": _SCALING,
        "norm_eps": 1e-5,
        "tied_head": True,
    },
    "tinyllama": {"architecture": "llama"},
    "qwen2": {"architecture": "qwen2", "num_key_value_heads": 2, "rope_theta": 1e6},
    "qwen3": {
        "architecture": "qwen3",
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rope_theta": 1e6,
        "tied_head": True,
    },
}
"""By name: settings of `model`."""


def settings(family: str, **changes: Any) -> dict[str, Any]:
    """The settings of `model` of a tiny model."""
    return {**_SIZES, "vocab_size": 320, "max_tokens": 64, **FAMILIES[family], **changes}


def shape(family: str, **changes: Any) -> ModelShape:
    """A tiny model's shape."""
    return shape_of(ModelConfig.model_validate(settings(family, **changes)))


@torch.no_grad()
def randomise(model: torch.nn.Module, seed: int = 0) -> None:
    """Values that hide no forgotten norm or bias."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        value.copy_(torch.randn(value.shape, generator=generator) * 0.3)
        if "norm" in name and name.endswith("weight"):
            value.add_(1.0)
