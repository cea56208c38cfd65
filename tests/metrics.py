"""Metrics of training steps as tests want them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from training.monitoring.metrics import StepCounts
from training.monitoring.metrics_file import read_lines


def step_counts(
    document_tokens: Iterable[int], *, supervised: int, capacity_tokens: int
) -> StepCounts:
    """The counts of a step of documents of these lengths."""
    lengths = list(document_tokens)
    return StepCounts(
        tokens=sum(lengths),
        supervised=supervised,
        keys=sum(length * (length + 1) // 2 for length in lengths),
        capacity_tokens=capacity_tokens,
    )


def read_steps(folder: Path) -> list[dict[str, Any]]:
    """One object per step of `metrics.jsonl`, in order: its lines merged, later values winning."""
    steps: dict[int, dict[str, Any]] = {}
    for line in read_lines(folder):
        steps.setdefault(int(line["step"]), {}).update(line)
    return [steps[step] for step in sorted(steps)]
