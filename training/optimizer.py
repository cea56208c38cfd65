"""AdamW over two groups: matrices are decayed, biases and LayerNorm are not."""

import torch
from torch import nn

from training.config import OptimizerConfig


def adamw(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101) in torch's fused form, on the CPU and on GPUs alike.

    torch's own, because DeepSpeed compiles its variant at first use, for most of a minute.
    """
    # By name, not by shape: a rank may hold its shard of a matrix as a flat tensor.
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_vector = name.endswith(".bias") or "norm" in name
        (vectors if is_vector else matrices).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,
    )
