"""Our training beside Hugging Face's Trainer: same shape, sequences and run, taking turns."""

import gc
import tempfile
from pathlib import Path
from statistics import mean, median

from tests.bench.gpu.engines import build_engine
from tests.bench.gpu.record import Record, short
from tests.bench.gpu.sequences import counts
from tests.bench.gpu.setting import Setting, spread
from tests.bench.gpu.theirs import WITHOUT_ACCELERATE, Trained
from tests.bench.gpu.train import Steps, Variant, variant_config

FULL = (
    Variant(shape="1b3", micro_batch_sequences=8, accumulation=2, recompute=False),
    Variant(shape="1b3", micro_batch_sequences=8, accumulation=2, recompute=True),
    Variant(shape="125m", micro_batch_sequences=16, accumulation=4, recompute=False),
)
TOY = (Variant(shape="1b3", micro_batch_sequences=2, accumulation=2, recompute=False),)

_WHAT_DIFFERS = (
    "Both get the same tokens in the same full sequences, bf16 products, fp32 master weights, "
    "fused AdamW, clipping at 1.0, no torch.compile. Ours: plain torch loop (see `train` for the "
    "engine), bf16 weights beside fp32 masters, attention within each document, head and loss "
    "at supervised tokens only. Theirs: autocast over fp32 weights, causal attention over the "
    "whole row (it mixes documents: less exact and more work), logits at every token."
)


def run(setting: Setting, record: Record) -> None:
    """Take turns, several times; the ratio of every turn, not of the best ones."""
    record.note(_WHAT_DIFFERS)
    for variant in TOY if setting.toy else FULL:
        try:
            _compare(setting, variant, record)
        except Exception as error:  # the other shapes may still fit
            record.row(shape=variant.shape, recompute=variant.recompute, error=short(error))
        gc.collect()
        setting.forget_memory()


def _compare(setting: Setting, variant: Variant, record: Record) -> None:
    config = variant_config(setting, variant)
    engine = build_engine("plain", setting, config)
    ours = Steps(setting, config, engine)
    warmup, num_steps, turns = (1, 1, 2) if setting.toy else (2, 4, 3)
    with tempfile.TemporaryDirectory() as folder:
        theirs = Trained(setting, config, ours.steps, Path(folder))
        if theirs.name != "Trainer":
            record.note(WITHOUT_ACCELERATE)
        our_turns: list[list[float]] = []
        their_turns: list[list[float]] = []
        for _ in range(turns):
            our_turns.append(setting.timed(ours, warmup=warmup, repeats=num_steps))
            their_turns.append(theirs.seconds(warmup=warmup, steps=num_steps))
    tokens = counts([batch for step in ours.steps for batch in step]).tokens / len(ours.steps)
    ratios = [mean(b) / mean(a) for a, b in zip(our_turns, their_turns, strict=True)]
    our_seconds, their_seconds = sum(our_turns, []), sum(their_turns, [])
    record.row(
        shape=variant.shape,
        sequences=variant.micro_batch_sequences,
        accumulation=variant.accumulation,
        recompute=variant.recompute,
        peer=theirs.name,
        ours_tokens_per_second=tokens / mean(our_seconds),
        theirs_tokens_per_second=tokens / mean(their_seconds),
        ratio=median(ratios),
        lowest_ratio=min(ratios),
        highest_ratio=max(ratios),
        turns=turns,
        ours_spread=spread(our_seconds),
        theirs_spread=spread(their_seconds),
        ours_first_loss=ours.losses[0],
        theirs_loss=theirs.loss,
    )
