# pyright: reportPrivateUsage=false
"""Runs that diverge, one after the other in the same ranks: python diverging.py CONFIG OUT.

Each layout's run updates its weights to infinity in its first step. A last run diverges in its
fifth step, and is resumed as its message says. Rank 0 writes what every rank met, and which
checkpoints there are.
"""

import contextlib
import io
import math
import re
import sys
from pathlib import Path
from typing import Any

import torch

from checkpoints.store import CheckpointStore
from parallel.gather import whole_weights
from parallel.groups import Groups
from parallel.layout import Layout
from parallel.parallelize import parallelize
from parallel.ranks import Ranks, discover
from training.checkpoint_paths import CHECKPOINTS
from training.config import TrainConfig, load, resolved
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


def changed(config: TrainConfig, folder: Path, **sections: dict[str, Any]) -> TrainConfig:
    """The config in another run folder, with these settings in place of its own."""
    tree = resolved(config)
    for name, section in {"run": {"folder": str(folder)}, **sections}.items():
        tree[name] |= section
    return TrainConfig.model_validate(tree)


def outcome(config: TrainConfig, ranks: Ranks) -> dict[str, Any]:
    """What training with this config ends in."""
    console.set_up(ranks)
    error, said = "", io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            train(config, ranks)
    except UserError as caught:
        error = f"{type(caught).__name__}: {caught}"
    steps = CheckpointStore(config.run.folder / CHECKPOINTS, ranks=ranks).steps()
    ranks.barrier()
    return {"errors": ranks.gather(error), "steps": steps, "said": said.getvalue()}


@torch.no_grad()
def poisoned(config: TrainConfig, ranks: Ranks) -> list[list[bool]]:
    """Of each rank what it says of its state: whole, and with one number of rank 1 spoilt."""
    groups = Groups.connect(Layout.from_config(config, ranks.world_size), ranks)
    engine = parallelize(config, groups, torch.device("cpu"))
    sizes = {name: value.shape for name, value in whole_weights(engine)}
    engine.restore(lambda name, _: torch.zeros(sizes[name]), step=1)  # moments, too
    said = [engine.has_finite_state()]
    optimizer = engine._plain_optimizer()
    value = next(value for value in engine._optimized() if value.numel())
    for place in (value, optimizer.state[value]["exp_avg"], optimizer.state[value]["exp_avg_sq"]):
        for spoilt in (math.nan, math.inf, -math.inf):
            before = place.view(-1)[0].item()
            if ranks.rank == 1:
                place.view(-1)[0] = spoilt
            said.append(engine.has_finite_state())
            place.view(-1)[0] = before
    said.append(engine.has_finite_state())
    engine.close()
    groups.disconnect()
    return ranks.gather(said)


def recovered(config: TrainConfig, folder: Path, ranks: Ranks) -> list[dict[str, Any]]:
    """A run of four good steps that diverges, and what comes of its message, step by step."""
    often = {"every_steps": 1}
    rate = {"learning_rate": 1e-2, "warmup_steps": 2, "decay": "constant"}
    good = changed(config, folder, training={"max_steps": 4}, checkpoint=often, optimizer=rate)
    found = [outcome(good, ranks)]
    longer = {"training": {"max_steps": 8}, "checkpoint": often}
    wild = changed(config, folder, **longer, optimizer={**rate, "learning_rate": 1e20})
    if ranks.is_main:
        # As if it had been the rate from the start: a higher one is refused.
        write_json(folder / RUN, resolved(wild))
    ranks.barrier()
    found.append(outcome(wild, ranks))
    lower = changed(config, folder, **longer, optimizer={**rate, "learning_rate": 1e-3})
    found.append(outcome(lower, ranks))
    message = found[-1]["errors"][0]
    moved = re.search(r"move (\S+) elsewhere", message)
    assert moved is not None, message
    if ranks.is_main:
        Path(moved.group(1)).rename(folder / "elsewhere")
    ranks.barrier()
    return [*found, outcome(lower, ranks)]


def main() -> None:
    """Run all layouts."""
    config, out = load(TrainConfig, [sys.argv[1]]), Path(sys.argv[2])
    ranks = discover()
    ranks.connect(torch.device("cpu"))
    found: dict[str, Any] = {}
    for name, parallel in LAYOUTS.items():
        wild = changed(
            config,
            out.parent / name.replace(" ", "_"),
            parallel=parallel,
            # Their product is beyond fp32: the first update makes the weights infinite.
            optimizer={"learning_rate": 3e38, "weight_decay": 1e6, "warmup_steps": 0},
            checkpoint={"every_steps": 1},
        )
        found[name] = {**outcome(wild, ranks), "poisoned": poisoned(wild, ranks)}
    found["recovered"] = recovered(config, out.parent / "recovered", ranks)
    if ranks.is_main:
        write_json(out, found)
    ranks.disconnect()


if __name__ == "__main__":
    main()
