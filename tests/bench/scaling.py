"""Ranks over gloo, weak and strong scaling, beside torch's `DistributedDataParallel`.

    make bench BENCH="--only ranks ranks.most=8 ranks.rounds=5"

Ours shards the optimizer's state (ZeRO-1). The peer is the plain torch loop over the same model,
wrapped; it has no shards, and starts from the same weights, so that the losses are compared. Each
rank is one process with one thread.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from parallel.engine import Engine
from parallel.groups import Groups
from parallel.layout import Layout
from parallel.parallelize import parallelize
from parallel.ranks import Ranks
from tests.bench.examples import CPU, LEARNING_RATE, prepared, steps_of
from tests.bench.gpu.engines import PlainEngine, TrainingEngine, fresh_model
from tests.bench.gpu.record import Record, short
from tests.bench.sizes import Ranks as RanksSizes
from tests.bench.training import TOLERANCE
from tests.bench.turns import Turn, Way, in_turns, loss_difference
from tests.ranks import run_distributed
from training.config import TrainConfig
from training.data.micro_batch import Batch

OURS, PEER = "ours, ZeRO-1", "DistributedDataParallel"
_TIMEOUT_SECONDS = 600
_SEQUENCES = 4
"""Of the global batch in strong scaling, of each rank in weak scaling."""


@dataclass(frozen=True)
class Case:
    """How one number of ranks divides the work."""

    scaling: str
    num_ranks: int

    @property
    def sequences(self) -> int:
        """Of one rank in an update, computed together."""
        return _SEQUENCES if self.scaling == "weak" else _SEQUENCES // self.num_ranks


Found = dict[tuple[Case, str], list[Turn]]


def run(sizes: RanksSizes, folder: Path, record: Record) -> None:
    """Every number of ranks in every round; in each, all ways in turns."""
    config = prepared(folder, sizes.examples, "parallel.zero_stage=1", "optimizer.warmup_steps=0")
    found: Found = {}
    counts = [2**power for power in range(sizes.most.bit_length()) if 2**power <= sizes.most]
    for _ in range(sizes.rounds):
        for num_ranks in counts:
            cases = [Case(scaling, num_ranks) for scaling in ("weak", "strong")]
            try:
                ranks = run_distributed(
                    measure,
                    num_ranks,
                    *(config, cases, sizes.turns, sizes.steps),
                    timeout=_TIMEOUT_SECONDS,
                )
            except AssertionError as error:
                record.row(ranks=num_ranks, error=short(error))
                continue
            for key, turns in ranks[0].items():
                found.setdefault(key, []).extend(turns)
    _rows(found, record)
    cores = os.cpu_count() or 1
    record.note(
        f"Weak: {_SEQUENCES} sequences for each rank in an update. Strong: {_SEQUENCES} for all. "
        "Efficiency: useful tokens/s over those of one rank and the number of ranks; in strong "
        f"scaling too. There are {cores} cores: more ranks than cores share them, so their "
        "efficiency cannot reach 1."
    )


def _rows(found: Found, record: Record) -> None:
    for (case, way), turns in found.items():
        one = found.get((Case(case.scaling, 1), way), [])
        ours, rates = found[case, OURS], _rates(turns)
        difference = loss_difference(turns, ours)
        record.row(
            scaling=case.scaling,
            ranks=case.num_ranks,
            way=way,
            **{
                "sequences of a rank": case.sequences,
                "tokens/s": rates,
                "efficiency": [
                    rate / (case.num_ranks * alone)
                    for rate, alone in zip(rates, _rates(one), strict=False)
                ]
                or None,
                "tokens/CPU s": [turn.tokens / turn.cpu_seconds for turn in turns],
                "ours is faster by": [
                    mine / rate for mine, rate in zip(_rates(ours), rates, strict=True)
                ],
                "loss difference": difference,
                "passed": difference < TOLERANCE,
            },
        )


def _rates(turns: list[Turn]) -> list[float]:
    return [turn.tokens / turn.seconds for turn in turns]


def measure(ranks: Ranks, config: TrainConfig, cases: list[Case], turns: int, steps: int) -> Found:
    """On each rank: all ways of all cases in turns."""
    ways: dict[tuple[Case, str], Way] = {}
    for case in cases:
        training = config.training.model_copy(
            update={
                "global_batch_sequences": case.sequences * case.num_ranks,
                "micro_batch_sequences": case.sequences,
            }
        )
        changed = config.model_copy(update={"training": training})
        batches = steps_of(changed, steps, rank=ranks.rank, world_size=ranks.world_size)
        for name, make in _ENGINES.items():
            engine = make(changed, ranks)
            ways[case, name] = lambda engine=engine, batches=batches: _turn(engine, batches)
    names = {f"{case.scaling} {name}": (case, name) for case, name in ways}
    found, failed = in_turns({each: ways[key] for each, key in names.items()}, turns)
    for error in failed.values():
        raise error  # the other ranks may wait for this one
    return {names[each]: its_turns for each, its_turns in found.items()}


def _our_engine(config: TrainConfig, ranks: Ranks) -> Engine:
    groups = Groups.connect(Layout.from_config(config, ranks.world_size), ranks)
    model = fresh_model(config.model, CPU)
    return parallelize(config, groups, CPU, value_of=cast(Any, model).get_parameter)


class _Replicated(PlainEngine):
    """The plain loop under `DistributedDataParallel`."""

    def __init__(self, config: TrainConfig, _: Ranks) -> None:
        super().__init__(fresh_model(config.model, CPU), config)
        self.module = cast(Any, DistributedDataParallel(self.module))

    def train_step(self, batches: Any, *, loss_normalizer: float, learning_rate: float) -> Any:
        # It averages gradients over the ranks; the loss is a sum over them.
        return super().train_step(
            batches,
            loss_normalizer=loss_normalizer / dist.get_world_size(),
            learning_rate=learning_rate,
        )


_ENGINES: dict[str, Callable[[TrainConfig, Ranks], TrainingEngine]] = {
    OURS: _our_engine,
    PEER: _Replicated,
}


def _turn(engine: TrainingEngine, steps: list[list[Batch]]) -> Turn:
    """One turn; seconds, tokens and losses of all ranks."""
    dist.barrier()
    seconds, cpu_seconds = time.perf_counter(), time.process_time()
    losses: list[float] = []
    for step in steps:
        weight = _sum(sum(batch.weight for batch in step))
        loss = engine.train_step(step, loss_normalizer=weight, learning_rate=LEARNING_RATE)
        losses.append(_sum(float(loss)) / weight)
    return Turn(
        seconds=time.perf_counter() - seconds,
        cpu_seconds=_sum(time.process_time() - cpu_seconds),
        tokens=int(_sum(sum(batch.num_tokens for step in steps for batch in step))),
        losses=losses,
    )


def _sum(value: float) -> float:
    """Over all ranks, as a training loop sums a step's counts."""
    total = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(total)
    return float(total)
