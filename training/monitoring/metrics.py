"""Metrics of a training run: tokens per second, MFU, time, memory, goodput.

    timer, goodput = StepTimer(), Goodput.from_state(state.goodput)
    with timer.waiting():
        batches = loader.next_step()
    ... one optimizer step ...
    seconds = timer.lap()
    goodput.count(seconds.step)
    tracker.log({**throughput.metrics(counts, seconds), GOODPUT: goodput.fraction()}, ...)

Everything here is arithmetic on numbers counted elsewhere. A number that cannot be known
(MFU on a device whose peak is not in the table) is left out, never guessed.
"""

import re
import resource
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from training.config import ModelConfig
from training.flops import training_flops
from training.monitoring.names import (
    GRAD_NORM,
    LEARNING_RATE,
    LOSS,
    MEMORY_PEAK_GIB,
    MFU,
    PADDING_FRACTION,
    TIME_DATA_WAIT,
    TIME_STEP,
    TOKENS_PER_SECOND,
)


def step_line(step: int, total: int, values: Mapping[str, float]) -> str:
    """The console's line about a training step: always the same numbers in the same order.

    Args:
        step: Updates made, this one included.
        total: `training.max_steps`.
        values: The step's metrics; a gradient norm or an MFU that is not known is left out.
    """
    parts = [f"step {step:,}/{total:,}", f"loss {values[LOSS]:.4f}"]
    if GRAD_NORM in values:
        parts.append(f"grad norm {values[GRAD_NORM]:.3f}")
    parts.append(f"lr {values[LEARNING_RATE]:.2e}")
    parts.append(f"{values[TOKENS_PER_SECOND]:,.0f} tokens/s")
    if MFU in values:
        parts.append(f"MFU {values[MFU]:.1%}")
    parts.append(f"{values[TIME_STEP]:.3f} s")
    parts.append(f"{values[MEMORY_PEAK_GIB]:.2f} GiB")
    return " | ".join(parts)


def step_flops(model: ModelConfig, counts: "StepCounts") -> float:
    """`training_flops` of a step's counts."""
    return training_flops(
        model, tokens=counts.tokens, supervised=counts.supervised, keys=counts.keys
    )


def mfu(
    flops: float, seconds: float, *, peak_flops: float | None, num_devices: int = 1
) -> float | None:
    """Model FLOPs utilisation over all devices; None where the peak is not known.

    Args:
        flops: Needed by what was done in these seconds.
        seconds: Wall-clock time.
        peak_flops: Of one device, a second.
        num_devices: How many there are.
    """
    if peak_flops is None:
        return None
    return flops / (seconds * peak_flops * num_devices)


# Dense bf16 FLOPS with fp32 accumulation, from the makers' data sheets, which print the
# double of it for sparse matrices. The first pattern that matches decides. Patterns end
# where the name of a weaker sibling continues (`RTX 4090 Laptop GPU`).
_PEAK_TERAFLOPS = (
    (r"\bMIG\b", None),  # a slice of a device that carries the whole device's name
    # Per GPU: the superchips' run at more power than those of the HGX boards.
    (r"\bGB[23]00\b", 2500.0),
    (r"\bB[23]00\b", 2250.0),
    (r"\bGH200\b", 989.4),
    (r"\bH200 NVL\b", 835.5),
    (r"\bH200\b", 989.4),
    (r"\bH[18]00 PCIe\b", 756.0),
    (r"\bH100 NVL\b", 835.5),
    (r"\bH[18]00\b", 989.4),
    (r"\bH20$", 148.0),
    (r"\bA[18]00\b", 312.0),
    (r"\bA40$", 149.7),
    (r"\bA30$", 165.0),
    (r"\bA10G$", 70.0),
    (r"\bA10$", 125.0),
    (r"\bL40S$", 362.05),
    (r"\bL40$", 181.05),
    (r"\bL4$", 121.0),
    (r"\bRTX A6000$", 154.8),
    (r"\bRTX 6000 Ada Generation$", 364.2),
    (r"\bRTX 5090$", 209.5),
    (r"\bRTX 4090$", 165.2),
    (r"\bRTX 3090$", 71.0),
    # No bf16 before Ampere: their fp16 peak, since fp16 is what one trains with there.
    (r"\bV100-SXM", 125.0),
    (r"\bV100-PCIE", 112.0),
    (r"\bT4$", 65.0),
    (r"\bMI3(00X|25X)\b", 1307.4),
    (r"\bMI300A\b", 980.6),
    (r"\bMI250X\b", 191.5),  # one of its two dies: each is a device of its own
)


def peak_flops(device_name: str) -> float | None:
    """Dense bf16 peak of a device by the name torch gives it; None if it is not known."""
    for pattern, teraflops in _PEAK_TERAFLOPS:
        if re.search(pattern, device_name.strip(), re.IGNORECASE):
            return None if teraflops is None else teraflops * 1e12
    return None


def device_peak_flops(device: torch.device) -> float | None:
    """Dense bf16 peak of a device; None for a CPU or an unknown one."""
    if device.type != "cuda":
        return None
    return peak_flops(torch.cuda.get_device_name(device))


def peak_memory_gib(device: torch.device) -> float:
    """Most memory this process has held: on the GPU, or, on a CPU, resident in all.

    For a GPU that is what torch's allocator reserved, the part that can run out.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20


@dataclass(frozen=True, kw_only=True)
class StepSeconds:
    """Where one step's wall-clock time went."""

    step: float
    """All of it, waiting included."""
    data_wait: float


class StepTimer:
    """Wall-clock seconds from lap to lap, and those of them spent waiting for data.

    A GPU works on after a call returns: take the lap after reading the step's loss.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._started = clock()
        self._waited = 0.0

    @contextmanager
    def waiting(self) -> Generator[None, None, None]:
        """Count the block as waiting for data."""
        begin = self._clock()
        try:
            yield
        finally:
            self._waited += self._clock() - begin

    def restart(self) -> None:
        """Forget the time since the last lap: it was an evaluation's or a checkpoint's."""
        self._started, self._waited = self._clock(), 0.0

    def lap(self) -> StepSeconds:
        """Seconds since the last lap or restart; the next step starts now."""
        seconds = StepSeconds(step=self._clock() - self._started, data_wait=self._waited)
        self.restart()
        return seconds


@dataclass(frozen=True, kw_only=True)
class StepCounts:
    """What one step's global batch held, summed over all ranks and accumulation."""

    tokens: int
    """Without padding."""
    supervised: int
    """Of them those at which the head and the loss are computed."""
    keys: int
    """Keys attended by all of them: n (n + 1) / 2 for a document of n tokens."""
    capacity_tokens: int
    """Sequences times their length, padding included."""


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Turns a step's counts and seconds into the metrics people read."""

    model: ModelConfig
    num_devices: int
    peak_flops: float | None
    """Of one device; None: no MFU."""

    @classmethod
    def from_config(
        cls, model: ModelConfig, *, device: torch.device, num_devices: int
    ) -> "Throughput":
        """For a model trained on `num_devices` devices like this one."""
        return cls(model=model, num_devices=num_devices, peak_flops=device_peak_flops(device))

    def metrics(self, counts: StepCounts, seconds: StepSeconds) -> dict[str, float]:
        """Tokens per second, MFU where the peak is known, padding, and times."""
        elapsed = max(seconds.step, 1e-9)
        found = {
            TOKENS_PER_SECOND: counts.tokens / elapsed,
            PADDING_FRACTION: 1.0 - counts.tokens / max(counts.capacity_tokens, 1),
            TIME_STEP: seconds.step,
            TIME_DATA_WAIT: seconds.data_wait,
        }
        utilisation = mfu(
            step_flops(self.model, counts),
            elapsed,
            peak_flops=self.peak_flops,
            num_devices=self.num_devices,
        )
        return found if utilisation is None else {**found, MFU: utilisation}


@dataclass(kw_only=True)
class Goodput:
    """Fraction of the time since a run's first start that went into steps that counted.

    Its state is saved in the checkpoint. A step that a crash undid is not in the state
    the next attempt resumes from, while its seconds still pass: restarts, lost steps, saving,
    evaluating and queueing all lower the fraction.
    """

    first_start: float = field(default_factory=time.time)
    """Unix seconds."""
    productive_seconds: float = 0.0

    def count(self, seconds: float) -> None:
        """A step of this length was done."""
        self.productive_seconds += seconds

    def fraction(self, now: float | None = None) -> float:
        """Productive seconds over seconds since the first start; between 0 and 1."""
        elapsed = (time.time() if now is None else now) - self.first_start
        return min(1.0, self.productive_seconds / elapsed) if elapsed > 0 else 0.0

    def state(self) -> dict[str, float]:
        """Plain numbers for the train state."""
        return {
            "first_start": self.first_start,
            "productive_seconds": self.productive_seconds,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, float]) -> "Goodput":
        """Resume from an earlier attempt's state; an empty state is a first start, now."""
        return cls(**state)
