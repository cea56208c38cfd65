"""Ways to do the same work, measured in turns, and what compares them."""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.gpu.engines import TrainingEngine
from training.data.micro_batch import Batch


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one way did in one turn."""

    seconds: float
    cpu_seconds: float
    tokens: int
    """Of the examples: without padding."""
    losses: list[float]
    """Mean over the supervised tokens, of each update."""


Way = Callable[[], Turn]


def in_turns(
    ways: Mapping[str, Way], turns: int
) -> tuple[dict[str, list[Turn]], dict[str, Exception]]:
    """Every way in every turn, after one turn that warms up; and the ways that failed."""
    found: dict[str, list[Turn]] = {name: [] for name in ways}
    failed: dict[str, Exception] = {}
    for number in range(turns + 1):
        for name in list(found):
            try:
                turn = ways[name]()
            except Exception as error:  # the others are still worth comparing
                failed[name] = error
                del found[name]
                continue
            if number:
                found[name].append(turn)
            gc.collect()
    return found, failed


def train(engine: TrainingEngine, steps: Sequence[list[Batch]], learning_rate: float) -> Turn:
    """One turn of an engine on one process, over all updates."""
    seconds, cpu_seconds, losses = time.perf_counter(), time.process_time(), list[float]()
    for step in steps:
        weight = sum(batch.weight for batch in step)
        loss = engine.train_step(step, loss_normalizer=weight, learning_rate=learning_rate)
        losses.append(float(loss) / weight)
    return Turn(
        seconds=time.perf_counter() - seconds,
        cpu_seconds=time.process_time() - cpu_seconds,
        tokens=sum(batch.num_tokens for step in steps for batch in step),
        losses=losses,
    )


def speed(turns: Sequence[Turn], ours: Sequence[Turn]) -> dict[str, Any]:
    """Columns: useful tokens per second, and how many times faster ours is, turn by turn."""
    return {
        "tokens/s": [turn.tokens / turn.seconds for turn in turns],
        "tokens/CPU s": [turn.tokens / turn.cpu_seconds for turn in turns],
        "ours is faster by": [
            (turn.seconds / turn.tokens) / (mine.seconds / mine.tokens)
            for turn, mine in zip(turns, ours, strict=True)
        ],
        "in CPU seconds": [
            (turn.cpu_seconds / turn.tokens) / (mine.cpu_seconds / mine.tokens)
            for turn, mine in zip(turns, ours, strict=True)
        ],
    }


def loss_difference(turns: Sequence[Turn], ours: Sequence[Turn]) -> float:
    """The largest relative difference between the losses of the same update."""
    return max(
        abs(loss - mine) / mine
        for turn, my_turn in zip(turns, ours, strict=True)
        for loss, mine in zip(turn.losses, my_turn.losses, strict=True)
    )
