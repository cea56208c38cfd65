"""Numbers as people read them: percentages with intervals, counts, times.

Accuracies are fractions of 1 on disk and percentages on the page; differences of
accuracies are in points (percentage points).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MISSING = "–"


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval, where there is one."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """Both ends; the value itself where there is no interval."""
        return (
            self.value if self.low is None else self.low,
            self.value if self.high is None else self.high,
        )


def interval(raw: Any) -> Interval | None:
    """Read `{"value", "low", "high"}` or a plain number; None for what is neither."""
    if isinstance(raw, Mapping):
        value = finite(raw.get("value"))
        if value is None:
            return None
        return Interval(value, finite(raw.get("low")), finite(raw.get("high")))
    value = finite(raw)
    return None if value is None else Interval(value)


def finite(raw: Any) -> float | None:
    """The number, or None for anything that is no finite number."""
    if isinstance(raw, bool) or not isinstance(raw, (int, float)):
        return None
    return float(raw) if math.isfinite(raw) else None


def percent(fraction: float) -> str:
    """`61.2 %` of 0.612."""
    return f"{100 * fraction:.1f}\u00a0%"


def points(difference: float) -> str:
    """`+5.1` of 0.051, with a true minus sign; zero has no sign."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\u2212")


def percent_range(value: Interval) -> str:
    """`58.1–64.0`, or nothing where there is no interval."""
    if value.low is None or value.high is None:
        return ""
    return f"{100 * value.low:.1f}\u2013{100 * value.high:.1f}"


def points_range(value: Interval) -> str:
    """`+3.0 to +7.2`, or nothing where there is no interval."""
    if value.low is None or value.high is None:
        return ""
    return f"{points(value.low)} to {points(value.high)}"


def count(number: float) -> str:
    """`12,345` exactly, or `3.42 million` from a million on."""
    for size, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if abs(number) >= size:
            return f"{number / size:.3g}\u00a0{name}"
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.4g}"


def duration(seconds: float) -> str:
    """`3 min 12 s`; hours from one hour on; tenths below ten seconds."""
    if seconds < 9.95:
        return f"{seconds:.1f}\u00a0s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}\u00a0s"
    if whole < 3600:
        return f"{whole // 60}\u00a0min {whole % 60}\u00a0s"
    return f"{whole // 3600:,}\u00a0h {whole % 3600 // 60}\u00a0min"


def number(value: float | None) -> str:
    """A program's result as short as it is exact enough: `12`, `3.5`; a dash for none."""
    if value is None:
        return MISSING
    whole = float(value).is_integer() and abs(value) < 1e15
    return f"{value:.0f}" if whole else f"{value:.6g}"


def label(key: str) -> str:
    """A key of a file as words: `too_long` becomes `too long`."""
    return key.replace("_", " ").replace("/", " / ").strip()
