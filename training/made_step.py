"""An update that was made, before its numbers are known."""

from dataclasses import dataclass

from parallel.late_values import LateValues


@dataclass(frozen=True, kw_only=True)
class MadeStep:
    """A step whose loss and gradient norm the device may still be computing."""

    step: int
    skipped: bool
    """Whether its gradient was not finite: then it is no step, and the next has its number."""
    tokens: int
    """Of all steps up to it."""
    numbers: LateValues
    """This rank's loss, not normalised, and the norm; NaN where there is none."""
    loss_normalizer: float
    metrics: dict[str, float]
    """Those that are known without them."""
