# pyright: reportPrivateUsage=false
"""Runs that diverge, one after the other on the same ranks.

diverged = run_distributed(diverge, 2, config, folder)      # [rank][layout]
outcomes = run_distributed(recover, 2, config, folder)      # [rank][run]

Each layout's run updates its weights to infinity in its first step. The run of `recover` diverges
in its fifth step, and is resumed as its message says.
"""

import contextlib
import io
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from checkpoints.store import CheckpointStore
from parallel.gather import whole_weights
from parallel.groups import Groups
from parallel.layout import Layout
from parallel.parallelize import parallelize
from parallel.planning.trace import typical_micro_batch
from parallel.ranks import Ranks
from training.checkpoint_paths import CHECKPOINTS
from training.config import TrainConfig, resolved
from training.errors import UserError
from training.files import write_json
from training.lifecycle.run_folder import RUN
from training.monitoring import console
from training.stages.runs.train import train

LAYOUTS: dict[str, dict[str, Any]] = {
    "zero 0": {"zero_stage": 0},
    "zero 1": {"zero_stage": 1},
    "zero 2": {"zero_stage": 2},
    "zero 3": {"zero_stage": 3},
    "tensor": {"zero_stage": 0, "tensor": 2},
    "pipeline": {"zero_stage": 1, "pipeline": 2},
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended on one rank."""

    error: str
    """Type and message; empty where it trained to its last step."""
    steps: list[int]
    """Of the checkpoints that there are."""
    output: str


@dataclass(frozen=True, kw_only=True)
class Diverged:
    """A layout's run on one rank."""

    outcome: Outcome
    finite: list[bool]
    """Whether the rank's state was finite: intact, with each corruption on rank 1, intact again."""


def changed(config: TrainConfig, folder: Path, **sections: dict[str, Any]) -> TrainConfig:
    """The config in another run folder, with these settings in place of its own."""
    tree = resolved(config)
    for name, section in {"run": {"folder": str(folder)}, **sections}.items():
        tree[name] |= section
    return TrainConfig.model_validate(tree)


def outcome(config: TrainConfig, ranks: Ranks) -> Outcome:
    """Train with this config."""
    console.set_up(ranks)
    error, output = "", io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            train(config, ranks)
    except UserError as caught:
        error = f"{type(caught).__name__}: {caught}"
    steps = CheckpointStore(config.run.folder / CHECKPOINTS, ranks=ranks).steps()
    ranks.barrier()
    return Outcome(error=error, steps=steps, output=output.getvalue())


@torch.no_grad()
def finite_states(config: TrainConfig, ranks: Ranks) -> list[bool]:
    """See `Diverged.finite`."""
    groups = Groups.connect(Layout.from_config(config, ranks.world_size), ranks)
    engine = parallelize(config, groups, torch.device("cpu"))
    sizes = {name: value.shape for name, value in whole_weights(engine)}
    engine.state.restore(lambda name, _: torch.zeros(sizes[name]), step=1)  # moments, too
    finite = [engine.state.is_finite()]
    optimizer = engine.state._plain_optimizer()
    value = next(value for value in engine.state._optimized() if value.numel())
    for place in (value, optimizer.state[value]["exp_avg"], optimizer.state[value]["exp_avg_sq"]):
        for corrupt in (math.nan, math.inf, -math.inf):
            before = place.view(-1)[0].item()
            if ranks.rank == 1:
                place.view(-1)[0] = corrupt
            finite.append(engine.state.is_finite())
            place.view(-1)[0] = before
    finite.append(engine.state.is_finite())
    engine.close()
    groups.disconnect()
    return finite


def diverge(ranks: Ranks, config: TrainConfig, folder: Path) -> dict[str, Diverged]:
    """The first run of every layout, in run folders below `folder`."""
    diverged: dict[str, Diverged] = {}
    for name, parallel in LAYOUTS.items():
        wild = changed(
            config,
            folder / name.replace(" ", "_"),
            parallel=parallel,
            # Their product is beyond fp32: the first update makes the weights infinite.
            optimizer={"learning_rate": 3e38, "weight_decay": 1e6, "warmup_steps": 0},
            checkpoint={"every_steps": 1},
        )
        diverged[name] = Diverged(outcome=outcome(wild, ranks), finite=finite_states(wild, ranks))
    return diverged


@torch.no_grad()
def skip(ranks: Ranks, config: TrainConfig) -> dict[str, list[bool]]:
    """Of each layout and precision: whether a step in which the loss of the last rank is not a
    number is reported, changes no weight, and the next step does."""
    found: dict[str, list[bool]] = {}
    for precision in ("fp32", "bf16"):
        for name, parallel in LAYOUTS.items():
            wanted = changed(
                config,
                config.run.folder,
                parallel=parallel,
                training={"precision": precision, "micro_batch_sequences": 2},
            )
            groups = Groups.connect(Layout.from_config(wanted, ranks.world_size), ranks)
            engine = parallelize(wanted, groups, torch.device("cpu"))
            batches = [typical_micro_batch(wanted)] * engine.num_micro_batches
            # Ranks of a tensor group, and of a pipeline, share one loss.
            is_wrong = ranks.rank == 1 or groups.layout.data == 1
            states: list[dict[str, Tensor]] = []
            skipped: list[bool] = []
            for normalizer in (1e3, math.nan if is_wrong else 1e3, 1e3):
                with torch.enable_grad():
                    engine.train_step(batches, loss_normalizer=normalizer, learning_rate=1e-2)
                norm = engine.grad_norm
                assert norm is not None
                is_finite = math.isfinite(norm)
                assert engine.skipped != is_finite
                skipped.append(engine.skipped)
                states.append({n: v.clone() for n, v in whole_weights(engine)})
            first, second, third = states
            found[f"{precision}, {name}"] = [
                skipped == [False, True, False],
                all(torch.equal(first[n], second[n]) for n in first),
                not all(torch.equal(second[n], third[n]) for n in first),
            ]
            engine.close()
            groups.disconnect()
    return found


def recover(ranks: Ranks, config: TrainConfig, folder: Path) -> list[Outcome]:
    """A run of four good steps that diverges, and is resumed as its messages say."""
    often = {"every_steps": 1}
    rate = {"learning_rate": 1e-2, "warmup_steps": 2, "decay": "constant"}
    good = changed(config, folder, training={"max_steps": 4}, checkpoint=often, optimizer=rate)
    outcomes = [outcome(good, ranks)]
    longer = {"training": {"max_steps": 8}, "checkpoint": often}
    wild = changed(config, folder, **longer, optimizer={**rate, "learning_rate": 1e20})
    if ranks.is_main:
        # As if it had been the rate from the start: a higher one is refused.
        write_json(folder / RUN, resolved(wild))
    ranks.barrier()
    outcomes.append(outcome(wild, ranks))
    lower = changed(config, folder, **longer, optimizer={**rate, "learning_rate": 1e-3})
    outcomes.append(outcome(lower, ranks))
    message = outcomes[-1].error
    moved = re.search(r"move (\S+) elsewhere", message)
    assert moved is not None, message
    if ranks.is_main:
        Path(moved.group(1)).rename(folder / "elsewhere")
    ranks.barrier()
    return [*outcomes, outcome(lower, ranks)]
