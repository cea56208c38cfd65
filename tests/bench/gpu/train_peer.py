"""Our training beside Hugging Face's Trainer: same shape and sequences, one after the other.

Ours is measured and recorded first and its memory freed: both at once need 84 GB at 1.3B.
"""

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from tests.bench.gpu.engines import build_engine, engine_names
from tests.bench.gpu.record import Record, guarded
from tests.bench.gpu.sequences import counts
from tests.bench.gpu.setting import Setting, spread
from tests.bench.gpu.theirs import WITHOUT_ACCELERATE, Trained
from tests.bench.gpu.train import Steps, Variant, described, steps_of, variant_config
from training.config import TrainConfig
from training.data.micro_batch import Batch
from training.monitoring import metrics

FULL = (
    Variant(name="8 sequences", micro_batch_sequences=8),
    Variant(name="125M", shape="125m", micro_batch_sequences=16),
)
TOY = (Variant(name="8 sequences", micro_batch_sequences=2),)

_WHAT_DIFFERS = (
    "Both get the same tokens in the same full sequences, bf16 products, fp32 master weights, "
    "fused AdamW, clipping at 1.0, no torch.compile. Ours: bf16 weights beside fp32 masters, "
    "attention within each document, head and loss at supervised tokens only. Theirs: autocast "
    "over fp32 weights, causal attention over the whole sequence (it mixes documents: less exact "
    "and more work), logits at every token."
)


def run(setting: Setting, record: Record) -> None:
    """Ours, then theirs, at every shape."""
    record.note(_WHAT_DIFFERS)
    engine_name = engine_names()[0]
    for variant in TOY if setting.toy else FULL:
        config = variant_config(setting, variant)
        known = described(variant, engine_name)
        ours: list[float] = []
        with guarded(record, setting, **known), _own_process_group():
            found = _ours(setting, config, engine_name)
            record.row(**known, **found)
            ours.append(found["tokens_per_second"])
        known = {**known, "engine": "transformers"}
        with guarded(record, setting, **known):
            found = _theirs(setting, config, record)
            faster = ours[0] / found["tokens_per_second"] if ours else None
            record.row(**{**known, **found}, ours_is_faster_by=faster)


def _repeats(setting: Setting) -> tuple[int, int]:
    return (1, 2) if setting.toy else (2, 6)


@contextmanager
def _own_process_group() -> Generator[None, None, None]:
    """Close what our engine opens, and forget its rank.

    Otherwise accelerate would take this process for one of a launcher's and wrap the model.
    """
    before = dict(os.environ)
    try:
        yield
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        os.environ.clear()
        os.environ.update(before)


def _ours(setting: Setting, config: TrainConfig, engine_name: str) -> dict[str, Any]:
    engine = build_engine(engine_name, setting, config)
    try:
        steps = Steps(setting, config, engine)
        warmup, repeats = _repeats(setting)
        seconds = setting.timed(steps, warmup=warmup, repeats=repeats)
        return _row(setting, steps.steps, seconds, loss=steps.losses[0])
    finally:
        engine.close()


def _theirs(setting: Setting, config: TrainConfig, record: Record) -> dict[str, Any]:
    steps = steps_of(setting, config)
    with tempfile.TemporaryDirectory() as folder:
        theirs = Trained(setting, config, steps, Path(folder))
        if theirs.name != "Trainer":
            record.note(WITHOUT_ACCELERATE)
        warmup, repeats = _repeats(setting)
        seconds = theirs.seconds(warmup=warmup, steps=repeats)
        row = _row(setting, steps, seconds, loss=theirs.loss)
        return {**row, "engine": f"transformers, {theirs.name}"}


def _row(
    setting: Setting, steps: list[list[Batch]], seconds: list[float], *, loss: float
) -> dict[str, Any]:
    tokens = counts([batch for step in steps for batch in step]).tokens / len(steps)
    return {
        "tokens_per_second": tokens / mean(seconds),
        "spread": spread(seconds),
        "peak_memory_gib": metrics.peak_memory_gib(setting.device),
        "loss": loss,
    }
