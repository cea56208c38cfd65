"""The results in plain sentences, the unwelcome ones included."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from training.report.collect import Benchmark
from training.report.formatting import Interval, percent, points, points_range

Tone = Literal["good", "bad", "neutral"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence and whether it is what a verifier is trained for."""

    text: str
    tone: Tone


def at_n(values: Mapping[int, Interval]) -> Interval | None:
    """The value at the largest k."""
    return values[max(values)] if values else None


def findings(benchmark: Benchmark) -> list[Finding]:
    """What the verifier gained over one program, and over a vote."""
    verified = at_n(benchmark.verify_at_k)
    if verified is None:
        return [Finding("No verifier was evaluated on this benchmark.", "neutral")]
    found: list[Finding] = []
    largest = max(benchmark.verify_at_k)
    if benchmark.verify_minus_greedy is not None:
        found.append(_against_greedy(benchmark.verify_minus_greedy, verified, largest))
    majority = at_n(benchmark.majority_at_k)
    if majority is not None:
        difference = benchmark.verify_minus_majority or Interval(verified.value - majority.value)
        found.append(_against_majority(difference, verified, majority))
    return found


def _against_greedy(difference: Interval, verified: Interval, largest: int) -> Finding:
    accuracy = percent(verified.value)
    size = f"{100 * abs(difference.value):.1f}"
    start = f"The verifier's choice among {largest} is right on {accuracy} of questions, "
    if difference.value > 0:
        text = f"{start}{size} points above the single greedy program"
    elif difference.value < 0:
        text = f"{start}{size} points below the single greedy program"
    else:
        return Finding(f"{start}exactly as often as the single greedy program.", "neutral")
    low, high = difference.ends
    clear = low > 0 or high < 0
    text += _interval_text(difference, clear)
    tone: Tone = "good" if low > 0 else "bad" if high < 0 else "neutral"
    return Finding(text, tone)


def _against_majority(difference: Interval, verified: Interval, majority: Interval) -> Finding:
    low, high = difference.ends
    clear = low > 0 or high < 0
    difference_text = f"a difference of {points(difference.value)} points"
    if difference.value < 0:
        text = (
            f"Majority voting beats the verifier: {percent(majority.value)} for the vote, "
            f"{percent(verified.value)} for the verifier, {difference_text}"
        )
        return Finding(text + _interval_text(difference, clear), "bad")
    if difference.value == 0:
        text = f"The verifier and majority voting are level at {percent(verified.value)}."
        return Finding(text, "neutral")
    text = (
        f"The verifier beats majority voting: {percent(verified.value)} for the verifier, "
        f"{percent(majority.value)} for the vote, {difference_text}"
    )
    return Finding(text + _interval_text(difference, clear), "good" if clear else "neutral")


def _interval_text(difference: Interval, clear: bool) -> str:
    if not points_range(difference):
        return "."
    text = f" (95\u00a0% interval {points_range(difference)})"
    return f"{text}." if clear else f"{text}; the interval holds zero, so this may be chance."
