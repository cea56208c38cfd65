"""How fast our code trains: tokens a second, MFU, memory beside its plan, waits of the host."""

from dataclasses import dataclass, replace
from itertools import cycle
from statistics import mean, median
from typing import Any

import torch
from torch import Tensor

from parallel.layout import Layout
from parallel.planning.plan import make_plan
from tests.bench.gpu.engines import (
    WITHOUT_DEEPSPEED,
    TrainingEngine,
    build_engine,
    engine_names,
    mean_loss,
)
from tests.bench.gpu.profiling import host_waits
from tests.bench.gpu.record import Record, guarded, short
from tests.bench.gpu.sequences import counts, micro_batches
from tests.bench.gpu.setting import Setting, spread
from training.config import ModelConfig, TrainConfig
from training.data.micro_batch import Batch
from training.monitoring import metrics
from training.schedule import learning_rate


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to train."""

    name: str
    shape: str = "1b3"
    micro_batch_sequences: int
    accumulation: int = 2
    recompute: bool = False
    """Activation checkpointing."""
    compiled: bool = False
    """`training.compile`."""
    reads_losses: bool = True
    """The host waits for the loss of every step; else for all after the last step."""
    plain: bool = False
    """Also under the plain torch loop, for comparison."""


FULL = (
    Variant(name="16 sequences", micro_batch_sequences=16, plain=True),
    Variant(
        name="4 sequences, recomputed", micro_batch_sequences=4, accumulation=8, recompute=True
    ),
    Variant(name="24 sequences", micro_batch_sequences=24),
    Variant(name="16 sequences, losses read last", micro_batch_sequences=16, reads_losses=False),
    Variant(name="16 sequences, compiled", micro_batch_sequences=16, compiled=True),
    Variant(name="125M, 16 sequences", shape="125m", micro_batch_sequences=16),
)
TOY = (
    Variant(name="16 sequences", micro_batch_sequences=2, plain=True),
    Variant(name="4 sequences, recomputed", micro_batch_sequences=1, recompute=True),
    Variant(name="16 sequences, losses read last", micro_batch_sequences=2, reads_losses=False),
    Variant(name="125M, 16 sequences", shape="125m", micro_batch_sequences=2),
)
WARMUP, STEPS = 2, 5
TOY_WARMUP, TOY_STEPS = 1, 2


def run(setting: Setting, record: Record) -> None:
    """Every variant under our engine; one that does not fit is a row with its error."""
    variants = TOY if setting.toy else FULL
    engines = engine_names()
    if "deepspeed" not in engines:
        record.note(WITHOUT_DEEPSPEED)
    record.note(
        "mfu: training/monitoring/metrics.py (the head counted at supervised tokens, attended "
        "keys counted, no embeddings, no recomputation). planned_gib: parallel/planning, without "
        "temporaries of single operations and fragmentation; allocated_gib: torch's peak of live "
        "tensors in a step. host_waits: in one step, as torch's debug mode for synchronisations "
        "sees them."
    )
    # All plans first: the engines open a process group, and a plan needs a fake one.
    plans = {key: _plan(setting, key, record) for key in dict.fromkeys(map(_planned_as, variants))}
    ways = [(variant, engines[0]) for variant in variants]
    ways += [(variant, engine) for engine in engines[1:] for variant in variants if variant.plain]
    for variant, engine in ways:
        known = described(variant, engine)
        with guarded(record, setting, **known):
            measured, places = measure(setting, variant, engine)
            planned = plans[_planned_as(variant)] if engine == "deepspeed" else None
            record.row(**known, **measured, **_beside_plan(measured, planned))
            if places:
                record.note(f"{variant.name}, {engine}: the host waits at {', '.join(places)}")


def described(variant: Variant, engine: str) -> dict[str, Any]:
    """What names a row."""
    return {
        "variant": variant.name,
        "engine": engine,
        "sequences": variant.micro_batch_sequences,
        "accumulation": variant.accumulation,
        "recompute": variant.recompute,
    }


def _planned_as(variant: Variant) -> Variant:
    """The variant without what a plan does not depend on: each plan takes seconds."""
    return replace(variant, name="", compiled=False, reads_losses=True, plain=False)


def _plan(setting: Setting, variant: Variant, record: Record) -> float | None:
    """GiB that `launch/plan.py` says the GPU holds at its peak."""
    config = variant_config(setting, variant)
    try:
        plan = make_plan(config, Layout.from_config(config, world_size=1), rank=0)
    except Exception as error:  # the measurements do not need it
        record.note(f"no plan of {variant}: {short(error)}")
        return None
    return plan.mine.total_bytes / 2**30


def _beside_plan(measured: dict[str, Any], planned: float | None) -> dict[str, float | None]:
    allocated = measured["allocated_gib"]
    return {
        "planned_gib": planned,
        "allocated_to_planned": allocated / planned if allocated and planned else None,
    }


def variant_config(setting: Setting, variant: Variant) -> TrainConfig:
    """The shipped config with this variant's sequences and checkpointing."""
    on_cpu = ["training.device=cpu"] if not setting.on_gpu else []
    if variant.compiled and not setting.on_gpu:
        on_cpu.append("training.precision=fp32")
    return setting.config(
        variant.shape,
        f"training.micro_batch_sequences={variant.micro_batch_sequences}",
        "optimizer.warmup_steps=0",
        f"training.global_batch_sequences={variant.micro_batch_sequences * variant.accumulation}",
        f"model.activation_checkpointing={str(variant.recompute).lower()}",
        f"training.compile={str(variant.compiled).lower()}",
        *on_cpu,
    )


def steps_of(setting: Setting, config: TrainConfig) -> list[list[Batch]]:
    """The micro-batches of two steps, in pinned memory as the trainer's."""
    sequences = config.training.sequences_at_a_time
    each = config.training.global_batch_sequences // sequences
    batches = micro_batches(setting, config, count=2 * each, sequences=sequences)
    if setting.on_gpu:
        batches = [batch.pinned() for batch in batches]
    return [batches[:each], batches[each:]]


class Steps:
    """An engine going through the same few steps again and again."""

    def __init__(
        self,
        setting: Setting,
        config: TrainConfig,
        engine: TrainingEngine,
        *,
        reads_losses: bool = True,
    ) -> None:
        self._config, self._engine, self._reads_losses = config, engine, reads_losses
        self.steps = steps_of(setting, config)
        self._next = cycle(self.steps)
        self._losses: list[float | Tensor] = []

    def __call__(self) -> None:
        rate = learning_rate(
            len(self._losses),
            max_steps=self._config.training.max_steps,
            optimizer=self._config.optimizer,
        )
        loss = mean_loss(self._engine, next(self._next), learning_rate=rate)
        self._losses.append(float(loss) if self._reads_losses else loss)

    @property
    def losses(self) -> list[float]:
        """Of all steps until now."""
        return [float(loss) for loss in self._losses]


def measure(
    setting: Setting, variant: Variant, engine_name: str
) -> tuple[dict[str, Any], list[str]]:
    """A row, and the lines at which the host waits."""
    config = variant_config(setting, variant)
    engine = build_engine(engine_name, setting, config)
    setting.forget_memory()
    try:
        steps = Steps(setting, config, engine, reads_losses=variant.reads_losses)
        warmup, repeats = (TOY_WARMUP, TOY_STEPS) if setting.toy else (WARMUP, STEPS)
        for _ in range(warmup):
            steps()
        if variant.reads_losses:
            seconds = setting.timed(steps, warmup=0, repeats=repeats)
        else:  # without a wait between the steps
            together = setting.timed(lambda: [steps() for _ in range(repeats)], warmup=0, repeats=1)
            seconds = [together[0] / repeats]
        found = {
            **speed(setting, config.model, steps.steps, seconds),
            "allocated_gib": allocated_gib(setting),
            "peak_memory_gib": metrics.peak_memory_gib(setting.device),
        }
        found["host_waits"], places = host_waits(setting, steps)
        return {**found, "first_loss": steps.losses[0], "last_loss": steps.losses[-1]}, places
    finally:
        engine.close()


def allocated_gib(setting: Setting) -> float | None:
    """Most memory of live tensors since the last `forget_memory`; None on a CPU."""
    return torch.cuda.max_memory_allocated(setting.device) / 2**30 if setting.on_gpu else None


def speed(
    setting: Setting, model: ModelConfig, steps: list[list[Batch]], seconds: list[float]
) -> dict[str, Any]:
    """Tokens a second and MFU of steps that took these seconds."""
    batches = [batch for step in steps for batch in step]
    counted = counts(batches)
    step_tokens = counted.tokens / len(steps)
    flops = metrics.step_flops(model, counted) / len(steps)
    return {
        "tokens_per_second": step_tokens / mean(seconds),
        "mfu": metrics.mfu(
            flops, mean(seconds), peak_flops=metrics.device_peak_flops(setting.device)
        ),
        "model_tflops": flops / mean(seconds) / 1e12,
        "step_seconds": median(seconds),
        "spread": spread(seconds) if len(seconds) > 1 else None,
        "padding": 1 - counted.tokens / counted.capacity_tokens,
        "supervised": counted.supervised / counted.tokens,
    }
