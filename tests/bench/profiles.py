"""Operators of an update on a CPU: the time of each kind, and the longest.

    make bench BENCH="--only profiles"

Of ours with all sequences of an update at a time, under torch's profiler, whose own cost is part of
each operator's time. What runs between operators (Python, DeepSpeed's hooks) is in no row.
"""

from pathlib import Path

import torch

from tests.bench.examples import CPU, LARGER, LEARNING_RATE, prepared, steps_of
from tests.bench.gpu.profiling import profiled, record_profile
from tests.bench.gpu.record import Record
from tests.bench.gpu.setting import Setting
from tests.bench.sizes import Profiles
from tests.bench.training import at_a_time, engine_of
from tests.bench.turns import train

_TOP = 12


def run(sizes: Profiles, folder: Path, record: Record) -> None:
    """One turn of each model, after one that warms up."""
    setting = Setting(device=torch.device(CPU), toy=False)
    for shape, steps, overrides in (
        ("demo", sizes.demo_steps, ()),
        ("ten times larger", sizes.larger_steps, LARGER),
    ):
        if not steps:
            continue
        config = prepared(folder, sizes.examples, "parallel.zero_stage=0", *overrides)
        config = at_a_time(config, config.training.global_batch_sequences)
        batches, engine = steps_of(config, steps), engine_of(config)
        train(engine, batches, LEARNING_RATE)
        found = profiled(setting, lambda: train(engine, batches, LEARNING_RATE))  # noqa: B023
        record_profile(record, shape, found, top=_TOP, per=steps)
