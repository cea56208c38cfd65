"""The learning rate as a pure function of the step."""

import math

from training.config import OptimizerConfig


def learning_rate(step: int, *, max_steps: int, optimizer: OptimizerConfig) -> float:
    """The learning rate of one update.

    Rises linearly over `warmup_steps`, then decays (linearly, by a half cosine, or not at
    all) to `final_learning_rate_fraction` of the peak at the last step.

    Args:
        step: The update, counted from 0.
        max_steps: Updates of the whole run.
        optimizer: Peak, warm-up and decay.
    """
    peak, warmup = optimizer.learning_rate, optimizer.warmup_steps
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, max_steps - warmup))
    remaining = {
        "constant": 1.0,
        "linear": 1.0 - done,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * done)),
    }[optimizer.decay]
    final = optimizer.final_learning_rate_fraction if optimizer.decay != "constant" else 0.0
    return peak * (final + (1.0 - final) * remaining)
