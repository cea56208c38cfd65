"""Where one training step of the 1.3B shape spends its time, kernel by kernel."""

from typing import Any

from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from tests.bench.gpu.engines import build_engine
from tests.bench.gpu.record import Record
from tests.bench.gpu.setting import Setting
from tests.bench.gpu.train import Steps, Variant, variant_config

TOP = 25


def run(setting: Setting, record: Record) -> None:
    """The kernels with the most time of their own; on a CPU, the operators."""
    sequences = 2 if setting.toy else 16
    variant = Variant(shape="1b3", micro_batch_sequences=sequences, accumulation=1, recompute=False)
    config = variant_config(setting, variant)
    steps = Steps(setting, config, build_engine("plain", setting, config))
    for _ in range(2):
        steps()
    setting.wait()
    activities = [ProfilerActivity.CPU]
    if setting.on_gpu:
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        steps()
        setting.wait()
    field = "self_device_time_total" if setting.on_gpu else "self_cpu_time_total"
    wanted = DeviceType.CUDA if setting.on_gpu else DeviceType.CPU
    events: list[Any] = [e for e in profiler.key_averages() if e.device_type == wanted]
    total = sum(getattr(event, field) for event in events)
    record.note(
        f"one step of {sequences} sequences, plain loop; {total / 1e3:.1f} ms in all, each with "
        "its own time only"
    )
    for event in sorted(events, key=lambda event: -getattr(event, field))[:TOP]:
        microseconds = getattr(event, field)
        record.row(
            kernel=event.key[:100],
            calls=event.count,
            milliseconds=microseconds / 1e3,
            share=microseconds / total,
        )
