"""Where a training step of the 1.3B shape spends its time: 4 sequences recomputed, and 16 kept."""

from tests.bench.gpu.engines import build_engine, engine_names
from tests.bench.gpu.profiling import profiled, record_profile
from tests.bench.gpu.record import Record, guarded
from tests.bench.gpu.setting import Setting
from tests.bench.gpu.train import Steps, Variant, variant_config

FULL = (
    Variant(
        name="4 sequences, recomputed", micro_batch_sequences=4, accumulation=1, recompute=True
    ),
    Variant(name="16 sequences", micro_batch_sequences=16, accumulation=1),
)
TOY = (
    Variant(
        name="4 sequences, recomputed", micro_batch_sequences=1, accumulation=1, recompute=True
    ),
    Variant(name="16 sequences", micro_batch_sequences=2, accumulation=1),
)
TOP = 12


def run(setting: Setting, record: Record) -> None:
    """One step of one micro-batch each, under our engine."""
    engine_name = engine_names()[0]
    record.note(
        f"One step of one micro-batch, under {engine_name}; each kernel with its own time only. "
        "idle: of the time from the first kernel to the last one, with the profiler's own cost. "
        "host_waits include the one at the end of the measurement."
    )
    for variant in TOY if setting.toy else FULL:
        with guarded(record, setting, profile=variant.name):
            config = variant_config(setting, variant)
            engine = build_engine(engine_name, setting, config)
            try:
                steps = Steps(setting, config, engine)
                for _ in range(2):
                    steps()
                record_profile(record, variant.name, profiled(setting, steps), top=TOP)
            finally:
                engine.close()
