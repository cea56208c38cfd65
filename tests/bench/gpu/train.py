"""How fast our code trains: tokens a second, MFU, memory, spread of step times."""

import gc
from dataclasses import dataclass
from itertools import cycle
from statistics import mean, median
from typing import Any

from tests.bench.gpu.engines import (
    WITHOUT_DEEPSPEED,
    TrainingEngine,
    build_engine,
    engine_names,
    train_step,
)
from tests.bench.gpu.record import Record, short
from tests.bench.gpu.sequences import counts, micro_batches
from tests.bench.gpu.setting import Setting, spread
from training.config import ModelConfig, TrainConfig
from training.data.micro_batch import Batch
from training.monitoring import metrics
from training.schedule import learning_rate


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to train."""

    shape: str
    micro_batch_sequences: int
    accumulation: int
    recompute: bool
    """Activation checkpointing."""
    compiled: bool = False
    """`training.compile`."""


FULL = (
    Variant(shape="1b3", micro_batch_sequences=4, accumulation=8, recompute=True),  # as shipped
    Variant(shape="1b3", micro_batch_sequences=16, accumulation=2, recompute=True),
    Variant(shape="1b3", micro_batch_sequences=16, accumulation=2, recompute=False),
    Variant(shape="1b3", micro_batch_sequences=16, accumulation=2, recompute=False, compiled=True),
    Variant(shape="125m", micro_batch_sequences=16, accumulation=2, recompute=False),  # as shipped
    Variant(shape="125m", micro_batch_sequences=64, accumulation=2, recompute=False),
)
TOY = (
    Variant(shape="1b3", micro_batch_sequences=2, accumulation=2, recompute=True),
    Variant(shape="1b3", micro_batch_sequences=2, accumulation=2, recompute=False),
    Variant(shape="125m", micro_batch_sequences=2, accumulation=2, recompute=False, compiled=True),
)
WARMUP, STEPS = 3, 10
TOY_WARMUP, TOY_STEPS = 1, 2


def run(setting: Setting, record: Record) -> None:
    """Every variant under every engine; one that does not fit is a row with its error."""
    engines = engine_names()
    if "deepspeed" not in engines:
        record.note(WITHOUT_DEEPSPEED)
    record.note(
        "mfu: training/monitoring/metrics.py (the head counted at supervised tokens, attended "
        "keys counted, no embeddings, no recomputation)"
    )
    for variant in TOY if setting.toy else FULL:
        for engine in engines:
            known: dict[str, Any] = {
                "shape": variant.shape,
                "engine": engine,
                "sequences": variant.micro_batch_sequences,
                "accumulation": variant.accumulation,
                "recompute": variant.recompute,
                "compiled": variant.compiled,
            }
            try:
                record.row(**known, **_measured(setting, variant, engine))
            except Exception as error:  # out of memory in one variant is a finding, not the end
                record.row(**known, error=short(error))
            gc.collect()
            setting.forget_memory()


def variant_config(setting: Setting, variant: Variant) -> TrainConfig:
    """The shipped config with this variant's sequences and checkpointing."""
    return setting.config(
        variant.shape,
        f"training.micro_batch_sequences={variant.micro_batch_sequences}",
        "optimizer.warmup_steps=0",
        f"training.global_batch_sequences={variant.micro_batch_sequences * variant.accumulation}",
        f"model.activation_checkpointing={str(variant.recompute).lower()}",
        f"training.compile={str(variant.compiled).lower()}",
        *(["training.precision=fp32"] if variant.compiled and not setting.on_gpu else []),
    )


class Steps:
    """An engine going through the same few steps again and again."""

    def __init__(self, setting: Setting, config: TrainConfig, engine: TrainingEngine) -> None:
        self._setting, self._config, self._engine = setting, config, engine
        each = config.training.global_batch_sequences // config.training.sequences_at_a_time
        batches = micro_batches(
            setting, config, count=2 * each, sequences=config.training.sequences_at_a_time
        )
        self.steps = [batches[:each], batches[each:]]
        self._next = cycle(self.steps)
        self._done = 0
        self.losses: list[float] = []

    def __call__(self) -> None:
        rate = learning_rate(
            self._done,
            max_steps=self._config.training.max_steps,
            optimizer=self._config.optimizer,
        )
        loss = train_step(self._engine, next(self._next), learning_rate=rate)
        self.losses.append(loss)
        self._done += 1


def _measured(setting: Setting, variant: Variant, engine_name: str) -> dict[str, Any]:
    config = variant_config(setting, variant)
    engine = build_engine(engine_name, setting, config)
    try:
        steps = Steps(setting, config, engine)
        warmup, repeats = (TOY_WARMUP, TOY_STEPS) if setting.toy else (WARMUP, STEPS)
        seconds = setting.timed(steps, warmup=warmup, repeats=repeats)
        return {
            **speed(setting, config.model, steps.steps, seconds),
            "peak_memory_gib": metrics.peak_memory_gib(setting.device),
            "first_loss": steps.losses[0],
            "last_loss": steps.losses[-1],
        }
    finally:
        engine.close()


def speed(
    setting: Setting, model: ModelConfig, steps: list[list[Batch]], seconds: list[float]
) -> dict[str, Any]:
    """Tokens a second and MFU of steps that took these seconds."""
    batches = [batch for step in steps for batch in step]
    counted = counts(batches)
    step_tokens = counted.tokens / len(steps)
    return {
        "tokens_per_second": step_tokens / mean(seconds),
        "mfu": metrics.mfu(
            metrics.step_flops(model, counted) / len(steps),
            mean(seconds),
            peak_flops=metrics.device_peak_flops(setting.device),
        ),
        "step_seconds": median(seconds),
        "spread": spread(seconds),
        "padding": 1 - counted.tokens / counted.capacity_tokens,
        "supervised": counted.supervised / counted.tokens,
    }
