"""Training beside transformers' Trainer and TRL, on the same examples, weights and optimizer.

    make bench BENCH="--only training training.turns=9"

Every way goes once over the same examples in every turn. Where an update of a peer can hold
exactly the examples of ours, the losses of all updates are compared. One process, as many threads
as OMP_NUM_THREADS says.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any, cast

from parallel.engine import Engine
from parallel.groups import Groups
from parallel.layout import Layout
from parallel.parallelize import parallelize
from parallel.ranks import discover
from tests.bench.examples import CPU, LARGER, LEARNING_RATE, examples_of, prepared, steps_of
from tests.bench.gpu.engines import PlainEngine, fresh_model
from tests.bench.gpu.record import Record, short
from tests.bench.gpu.setting import installed
from tests.bench.peers.trainer import PeerTrainer, flattened, grouped, packed_by_trl, padded
from tests.bench.sizes import Training
from tests.bench.turns import Turn, Way, in_turns, loss_difference, speed, train
from training.config import TrainConfig

TOLERANCE = 1e-5
"""Of the relative difference of a loss: products are summed in another order, and the difference
grows from update to update."""

_PEERS: dict[str, tuple[str, Callable[..., PeerTrainer], bool]] = {
    "Trainer, padded to the longest of a batch": ("accelerate", padded, True),
    "Trainer, batches of similar lengths": ("accelerate", grouped, False),
    "Trainer, flattened": ("accelerate", flattened, True),
    "TRL, packed": ("trl", packed_by_trl, False),
}
"""The package it needs, how it is made, and whether its updates hold the examples of ours."""


def run(sizes: Training, folder: Path, record: Record) -> None:
    """Every way on both models."""
    for shape, steps, overrides in (
        ("demo", sizes.demo_steps, ()),
        ("ten times larger", sizes.larger_steps, LARGER),
    ):
        if steps:
            config = prepared(folder, sizes.examples, "parallel.zero_stage=0", *overrides)
            _compare(config, shape, steps, sizes.turns, record)
    record.note(
        "Useful tokens: without padding. Equal for all ways are the examples of a turn, the "
        "starting weights, fp32, fused AdamW with its two groups, clipping and a constant "
        "learning rate; and, where a loss difference is given, the examples of each update. It is "
        "the largest relative one of all updates, against ours with 4 sequences at a time. "
        "Batches of similar lengths and TRL's packing choose their own examples for an update."
    )


def _compare(config: TrainConfig, shape: str, steps: int, turns: int, record: Record) -> None:
    ours = _ours(config, steps)
    peers, problems = _peers(config, steps)
    found, failed = in_turns({**ours, **peers}, turns)
    best = found[_name("ours", config.training.global_batch_sequences)]
    for name, its_turns in found.items():
        record.row(
            model=shape,
            way=name,
            **speed(its_turns, best),
            updates=len(its_turns[0].losses),
            **{"mean loss, last turn": mean(its_turns[-1].losses)},
            **_checks(name, its_turns, best),
        )
    for name, reason in problems.items():
        record.row(model=shape, way=name, **{"left out": reason})
    for name, error in failed.items():
        record.row(model=shape, way=name, error=short(error))


def _checks(name: str, turns: list[Turn], ours: list[Turn]) -> dict[str, Any]:
    """Equal useful tokens, and equal losses where the updates are the same."""
    passed = all(turn.tokens == mine.tokens for turn, mine in zip(turns, ours, strict=True))
    if name in _PEERS and not _PEERS[name][2]:
        return {"loss difference": None, "passed": passed}
    difference = loss_difference(turns, ours)
    return {"loss difference": difference, "passed": passed and difference < TOLERANCE}


def _name(who: str, sequences: int) -> str:
    return f"{who}, {sequences} sequence{'s' * (sequences > 1)} at a time"


def _ours(config: TrainConfig, steps: int) -> dict[str, Way]:
    whole = config.training.global_batch_sequences
    ways: dict[str, Way] = {}
    for sequences in sorted({config.training.sequences_at_a_time, whole}):
        changed = at_a_time(config, sequences)
        ways[_name("ours", sequences)] = _way(engine_of(changed), changed, steps)
        if sequences == whole:
            bare = PlainEngine(fresh_model(config.model, CPU), changed)
            name = _name("plain torch loop over the same model", sequences)
            ways[name] = _way(bare, changed, steps)
    return ways


def _peers(config: TrainConfig, steps: int) -> tuple[dict[str, Way], dict[str, str]]:
    """The peers that are installed; and why the others are left out."""
    updates = [
        [example for batch in step for example in examples_of(batch)]
        for step in steps_of(config, steps)
    ]
    ways: dict[str, Way] = {}
    left_out: dict[str, str] = {}
    for name, (package, make, _) in _PEERS.items():
        if installed(package):
            # Made late, so that one that cannot be made fails as one that cannot train does.
            peer = functools.cache(functools.partial(make, config, updates))
            ways[name] = lambda peer=peer: peer()()
        else:
            left_out[name] = f"{package} is not installed"
    return ways, left_out


def _way(engine: Engine | PlainEngine, config: TrainConfig, steps: int) -> Way:
    batches = steps_of(config, steps)
    return lambda: train(engine, batches, LEARNING_RATE)


def at_a_time(config: TrainConfig, sequences: int) -> TrainConfig:
    """The same training with another micro-batch."""
    training = config.training.model_copy(update={"micro_batch_sequences": sequences})
    return config.model_copy(update={"training": training})


def engine_of(config: TrainConfig) -> Engine:
    """Ours, with fresh weights, on this process alone."""
    ranks = discover()
    ranks.connect(CPU)
    groups = Groups.connect(Layout.from_config(config, ranks.world_size), ranks)
    model = fresh_model(config.model, CPU)
    return parallelize(config, groups, CPU, value_of=cast(Any, model).get_parameter)
