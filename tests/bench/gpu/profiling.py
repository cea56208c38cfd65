"""Profiles of work on the device: its kernels, the gaps between them, the host's waits.

profiler = Profiler(setting)
profiler.start(); work(); profile = profiler.stop()
"""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from tests.bench.gpu.record import Record
from tests.bench.gpu.setting import Setting

_LAUNCH = re.compile(r"cu(da)?(Launch|GraphLaunch)")
_WAIT = re.compile(r"cu(da)?(Stream|Event|Device|Ctx)Synchronize$")
_CPU_WAITS = ("aten::_local_scalar_dense", "aten::nonzero")
"""Operators that read a value of a tensor on the host: on a GPU it would wait for them."""
_KINDS = (
    ("attention", r"flash|fmha|attention"),
    ("products", r"gemm|nvjet|cutlass|xmma|aten::(mm|addmm|bmm|baddbmm)$"),
    ("copies", r"memcpy|memset|aten::(copy_|fill_|zero_)$"),
    ("optimizer", r"multi_tensor|adam|foreach"),
    ("collectives", r"nccl|gloo"),
)
"""Kinds of kernels by patterns of their names, the first that matches; the others are `other`:
elementwise kernels, reductions, LayerNorm, indexing."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What the device did."""

    kernels: dict[str, tuple[int, float]]
    """Calls, and seconds of its own, of each kernel; on a CPU, of each operator."""
    launches: int | None
    """Calls that launch a kernel; None on a CPU."""
    waits: dict[str, int]
    """Calls in which the host waits for the device, by name."""
    span_seconds: float | None
    """From the first kernel's begin to the last one's end; None on a CPU."""
    idle_seconds: float | None
    """Of it, without any kernel."""

    @property
    def busy_seconds(self) -> float:
        return sum(seconds for _, seconds in self.kernels.values())

    def kinds(self) -> dict[str, tuple[int, float]]:
        """Calls and seconds of each kind, the longest first."""
        found: dict[str, tuple[int, float]] = {}
        for name, (calls, seconds) in self.kernels.items():
            kind = kind_of(name)
            before = found.get(kind, (0, 0.0))
            found[kind] = (before[0] + calls, before[1] + seconds)
        return dict(sorted(found.items(), key=lambda item: -item[1][1]))


class Profiler:
    """torch's profiler between `start` and `stop`."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        # Without the operators on the host: they are many, and recording them slows it.
        activity = ProfilerActivity.CUDA if setting.on_gpu else ProfilerActivity.CPU
        self._profile: Any = profile(activities=[activity])

    def start(self) -> None:
        self._setting.wait()
        self._profile.start()

    def stop(self) -> Profile:
        self._setting.wait()
        self._profile.stop()
        if self._setting.on_gpu:
            return of_device(self._profile.events())
        found = {
            event.key: (event.count, event.self_cpu_time_total / 1e6)
            for event in self._profile.key_averages()
        }
        return Profile(
            kernels=found,
            launches=None,
            waits={name: found[name][0] for name in _CPU_WAITS if name in found},
            span_seconds=None,
            idle_seconds=None,
        )


def profiled(setting: Setting, work: Callable[[], Any]) -> Profile:
    """Profile some work, which should have been done before: not its first time."""
    profiler = Profiler(setting)
    profiler.start()
    work()
    return profiler.stop()


def of_device(events: Iterable[Any]) -> Profile:
    """Of torch's events: kernels on the device, and the calls of CUDA's runtime on the host."""
    calls: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    host: Counter[str] = Counter()
    busy: list[tuple[float, float]] = []
    for event in events:
        if getattr(event, "is_user_annotation", False):
            continue  # a name for a stretch of time that holds other kernels
        if event.device_type != DeviceType.CUDA:
            host[event.name] += 1
            continue
        begin, end = event.time_range.start / 1e6, event.time_range.end / 1e6
        calls[event.name] += 1
        seconds[event.name] += end - begin
        busy.append((begin, end))
    span = max(end for _, end in busy) - min(begin for begin, _ in busy) if busy else 0.0
    return Profile(
        kernels={name: (calls[name], seconds[name]) for name in calls},
        launches=sum(count for name, count in host.items() if _LAUNCH.match(name)),
        waits={name: count for name, count in host.items() if _WAIT.match(name)},
        span_seconds=span,
        idle_seconds=span - _covered(busy),
    )


def _covered(intervals: list[tuple[float, float]]) -> float:
    """Length of the union: streams overlap."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def kind_of(kernel: str) -> str:
    """The kind of a kernel, by its name."""
    matching = (kind for kind, pattern in _KINDS if re.search(pattern, kernel, re.IGNORECASE))
    return next(matching, "other")


def record_profile(record: Record, name: str, found: Profile, *, top: int, per: int = 1) -> None:
    """Rows of a profile: as a whole, by kinds of kernels, and the longest kernels.

    Args:
        record: Where the rows go.
        name: Of what was profiled.
        found: The profile.
        top: How many kernels.
        per: Steps that were profiled; the rows are of one.
    """
    busy = found.busy_seconds
    record.row(
        profile=name,
        kernels="all",
        calls=sum(calls for calls, _ in found.kernels.values()) / per,
        milliseconds=busy / per * 1e3,
        share=1.0,
        launches=None if found.launches is None else found.launches / per,
        host_waits=sum(found.waits.values()) / per,
        idle=found.idle_seconds / found.span_seconds
        if found.idle_seconds is not None and found.span_seconds
        else None,
    )
    for name_of_wait, count in found.waits.items():
        record.note(f"{name}: {name_of_wait}, {count / per:g} calls")
    longest = sorted(found.kernels.items(), key=lambda item: -item[1][1])[:top]
    for label, (calls, seconds) in [
        *((f"kind: {kind}", values) for kind, values in found.kinds().items()),
        *((kernel[:90], values) for kernel, values in longest),
    ]:
        record.row(
            profile=name,
            kernels=label,
            calls=calls / per,
            milliseconds=seconds / per * 1e3,
            share=seconds / busy if busy else None,
        )


def host_waits(setting: Setting, work: Callable[[], Any]) -> tuple[int, list[str]]:
    """How often the host waits for the device, and the lines that do so.

    On a GPU as torch's debug mode sees it, which is without explicit synchronisations; on a CPU,
    the operators that would wait on a GPU, without their lines.
    """
    if not setting.on_gpu:
        return sum(profiled(setting, work).waits.values()), []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    found = [each for each in caught if "synchronizing CUDA operation" in str(each.message)]
    places = Counter(f"{each.filename.split('/')[-1]}:{each.lineno}" for each in found)
    return len(found), [f"{place} ({count})" for place, count in places.most_common(8)]
