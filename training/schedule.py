"""The learning rate as a pure function of the step."""

import math

from training.config import OptimizerConfig


def learning_rate(step: int, *, max_steps: int, optimizer: OptimizerConfig) -> float:
    """The learning rate of one update.

    With W = `warmup_steps` and N = `max_steps`, and updates counted from 1 as in the logs,
    update n has the rate

    - n / W of the peak up to update W, which has the peak (without warm-up update 1 has it);
    - then decays (linearly, by a half cosine, or not at all) up to update N, the last, which
      has `final_learning_rate_fraction` of the peak. Where that is 0, the last update changes
      nothing.

    This is one update ahead of transformers' `get_linear_schedule_with_warmup`, whose update n
    has our rate of update n - 1: there the first update has rate 0, and the last one is a step
    above the end of the decay.

    A run that resumes with another `max_steps` has the rates of that `max_steps` from then on.

    Args:
        step: The update, counted from 0: updates made before it.
        max_steps: Updates of the whole run.
        optimizer: Peak, warm-up and decay.
    """
    peak, warmup = optimizer.learning_rate, optimizer.warmup_steps
    if step < warmup:
        return peak * (step + 1) / warmup
    peak_step = max(warmup - 1, 0)
    done = min(1.0, (step - peak_step) / max(1, max_steps - 1 - peak_step))
    remaining = {
        "constant": 1.0,
        "linear": 1.0 - done,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * done)),
    }[optimizer.decay]
    final = optimizer.final_learning_rate_fraction if optimizer.decay != "constant" else 0.0
    return peak * (final + (1.0 - final) * remaining)
