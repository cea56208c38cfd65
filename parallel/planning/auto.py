"""Chooses what a config leaves to `auto`: sequences at a time, and whether to recompute.

    found = plan_here(config, layout, ranks, device)   # before the process group is opened
    ranks.connect(device)
    choice = agree(found, ranks)                       # the same on all ranks
    config = choice.applied(config)                    # everything after reads this one

The rule:

1. A micro-batch is a divisor of a rank's sequences of a step, so that the global batch stays what
   the config says. Pipelines keep at least as many micro-batches as stages, or they never fill.
2. It fits where the plan's peak leaves `HEADROOM` of the device free; the smallest device of the
   run decides for all ranks.
3. Without recomputation the largest that fits is taken, if that is `LEAST_SEQUENCES` or more. Only
   else are activations recomputed, where this lets a larger one fit.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from parallel.layout import Layout
from parallel.planning.device_memory import (
    CARDS_GB,
    GIB,
    available_memory,
    card_bytes,
    device_memory,
)
from parallel.planning.plan import make_plan
from parallel.ranks import Ranks
from training.config import ConfigError, TrainConfig
from training.config.values import AUTO

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

HEADROOM = 0.08
"""Fraction of the device's memory that is kept free for what a plan leaves out: CUDA's context and
NCCL's buffers (1 to 2 GB), fragmentation, and micro-batches with more supervised tokens."""
LEAST_SEQUENCES = 2
"""Each micro-batch has fixed costs, mostly adding up the fp32 gradients: of a single sequence of
1,280 tokens they take about half as long as its passes, more than recomputing (about 30 %)."""

PeakOf = Callable[[int, bool], int]
"""From sequences at a time, and whether activations are recomputed, to the planned peak in bytes
of the fullest rank. It grows with the sequences."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What `auto` became on a device, and why."""

    asked: tuple[str, ...]
    """The settings that were `auto`."""
    sequences: int
    recomputes: bool
    peak_bytes: int
    """As planned."""
    memory_bytes: int
    """Of the device."""
    reason: str
    """Why not more sequences."""

    def applied(self, config: TrainConfig) -> TrainConfig:
        """The config with this choice in place of `auto`."""
        model = config.model.model_copy(update={"activation_checkpointing": self.recomputes})
        training = config.training.model_copy(update={"micro_batch_sequences": self.sequences})
        return config.model_copy(update={"model": model, "training": training})

    def record(self) -> dict[str, Any]:
        """What was `auto` with what it became, and the memory that decided, for the run's files."""
        values = {
            "training.micro_batch_sequences": self.sequences,
            "model.activation_checkpointing": self.recomputes,
        }
        return {
            "became": {name: values[name] for name in self.asked},
            "planned_peak_bytes": self.peak_bytes,
            "device_bytes": self.memory_bytes,
        }

    def __str__(self) -> str:
        again = "recomputed" if self.recomputes else "kept"
        return (
            f"{' and '.join(self.asked)} = auto: {self.sequences} sequences at a time, activations "
            f"{again}; planned peak {_gib(self.peak_bytes)} of the device's "
            f"{_gib(self.memory_bytes)}, {HEADROOM:.0%} of which stay free; {self.reason}"
        )


def asked(config: TrainConfig) -> tuple[str, ...]:
    """The settings that are `auto`."""
    values = {
        "training.micro_batch_sequences": config.training.micro_batch_sequences,
        "model.activation_checkpointing": config.model.activation_checkpointing,
    }
    return tuple(name for name, value in values.items() if value == AUTO)


class Peaks:
    """`PeakOf` by the planner, which takes seconds: each plan is made once."""

    def __init__(self, config: TrainConfig, layout: Layout) -> None:
        self._config, self._layout = config, layout
        self._known: dict[tuple[int, bool], int] = {}

    def __call__(self, sequences: int, recomputes: bool) -> int:
        """Planned peak in bytes of the fullest pipeline stage's rank."""
        key = (sequences, recomputes)
        if key not in self._known:
            model = self._config.model.model_copy(update={"activation_checkpointing": recomputes})
            training = self._config.training.model_copy(update={"micro_batch_sequences": sequences})
            config = self._config.model_copy(update={"model": model, "training": training})
            plan = make_plan(config, self._layout, rank=0)
            # A CPU rank's main memory is the one that it computes in.
            self._known[key] = max(
                stage.total_bytes + (0 if plan.on_gpu else stage.host_bytes + stage.copies_bytes)
                for stage in plan.stages
            )
        return self._known[key]


def sizes(config: TrainConfig, layout: Layout) -> list[int]:
    """The micro-batches to choose from, in sequences, from the smallest."""
    if config.training.micro_batch_sequences != AUTO:
        return [config.training.sequences_at_a_time]
    share = config.training.global_batch_sequences // layout.data
    if config.parallel.reduce_dtype == "bf16":
        return [share]
    divisors = [size for size in range(1, share + 1) if share % size == 0]
    return [size for size in divisors if share // size >= layout.pipeline] or [1]


def choose(config: TrainConfig, layout: Layout, memory_bytes: int, peak_of: PeakOf) -> Choice:
    """Choose by the rule above.

    Args:
        config: At least one of the two settings is `auto`.
        layout: The run's.
        memory_bytes: Of the device.
        peak_of: `Peaks(config, layout)`.

    Raises:
        ConfigError: nothing fits.
    """
    candidates, usable = sizes(config, layout), int(memory_bytes * (1 - HEADROOM))
    setting = config.model.activation_checkpointing
    best, recomputes = 0, False
    for again in (False, True) if setting == AUTO else (config.model.recomputes,):
        found = _largest(candidates, lambda size, again=again: peak_of(size, again) <= usable)
        if found > best:
            best, recomputes = found, again
        if best >= LEAST_SEQUENCES:
            break
    if not best:
        again = setting is not False
        raise _nothing_fits(config, candidates[0], again, peak_of(candidates[0], again), usable)
    return Choice(
        asked=asked(config),
        sequences=best,
        recomputes=recomputes,
        peak_bytes=peak_of(best, recomputes),
        memory_bytes=memory_bytes,
        reason=_reason(config, layout, candidates, best, recomputes, peak_of),
    )


def plan_here(
    config: TrainConfig, layout: Layout, ranks: Ranks, device: "torch.device"
) -> tuple[int, Choice | ConfigError] | None:
    """This rank's memory, and what it would choose; None where nothing is `auto`.

    To be called before the process group is opened: a plan opens one that sends nothing. An error
    is returned, for `agree` to raise on all ranks.
    """
    if not asked(config):
        return None
    training = config.training.model_copy(update={"device": device.type})
    config = config.model_copy(update={"training": training})
    memory_bytes = device_memory(device, ranks)
    try:
        return memory_bytes, choose(config, layout, memory_bytes, Peaks(config, layout))
    except ConfigError as error:
        return memory_bytes, error


def agree(found: tuple[int, Choice | ConfigError] | None, ranks: Ranks) -> Choice | None:
    """The choice of the rank with the least memory, on all ranks; a collective. Logs it.

    Raises:
        ConfigError: on all ranks, where nothing fits that rank.
    """
    if found is None:
        return None
    all_found: list[tuple[int, Choice | ConfigError]] = ranks.gather(found)
    _, choice = min(all_found, key=lambda each: each[0])
    if isinstance(choice, ConfigError):
        raise choice
    if ranks.is_main:
        logger.info(str(choice))
    return choice


def devices(config: TrainConfig, num_ranks: int) -> Iterator[tuple[str, int]]:
    """The devices that a run is planned for before it starts: names, and bytes of a rank.

    This machine where it trains on a CPU, else GPUs of the usual sizes.
    """
    if config.training.device == "cpu":
        yield "on this machine", available_memory() // num_ranks
        return
    for gigabytes in CARDS_GB:
        yield f"on {gigabytes} GB GPUs", card_bytes(gigabytes)


def _largest(candidates: list[int], fits: Callable[[int], bool]) -> int:
    """The last of the ascending candidates that fits, by bisection; 0: none."""
    low, high = 0, len(candidates)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if fits(candidates[middle]) else (low, middle)
    return candidates[low - 1] if low else 0


def _reason(
    config: TrainConfig,
    layout: Layout,
    candidates: list[int],
    best: int,
    recomputes: bool,
    peak_of: PeakOf,
) -> str:
    if config.training.micro_batch_sequences != AUTO:
        return "the number of sequences is the config's"
    if best != candidates[-1]:
        more = candidates[candidates.index(best) + 1]
        return f"{more} sequences would need {_gib(peak_of(more, recomputes))}"
    share = config.training.global_batch_sequences // layout.data
    if best == share:
        return f"a rank has {share} in a step"
    return f"the {layout.pipeline} pipeline stages need as many micro-batches of a rank's {share}"


def _nothing_fits(
    config: TrainConfig, smallest: int, again: bool, peak_bytes: int, usable: int
) -> ConfigError:
    what = f"{smallest} sequence{'s' * (smallest > 1)} of {config.data.sequence_length} tokens"
    options = ["more ranks", "parallel.tensor or parallel.pipeline of 2 or more"]
    if config.parallel.pipeline == 1 and config.parallel.zero_stage < 3:
        options.insert(1, f"parallel.zero_stage = {config.parallel.zero_stage + 1} or more")
    if not config.parallel.offload_optimizer and config.parallel.pipeline == 1:
        options.append("parallel.offload_optimizer = true with parallel.zero_stage = 2")
    if not again:
        options.insert(0, "model.activation_checkpointing = 'auto'")
    if config.training.micro_batch_sequences != AUTO:
        options.insert(0, "training.micro_batch_sequences = 'auto'")
    return ConfigError(
        f"{' and '.join(asked(config))} = 'auto': {what} at a time, activations "
        f"{'recomputed' if again else 'kept'}, need {_gib(peak_bytes)} by the plan, and a rank's "
        f"device has {_gib(usable)} after {HEADROOM:.0%} that stay free: try "
        f"{', '.join(options)}"
    )


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.1f} GiB"
