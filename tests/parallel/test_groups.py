"""The process groups of a layout: their backends, and how long their collectives may take."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

from parallel.groups import Groups
from parallel.layout import Layout
from parallel.parallelize import parallelize
from parallel.ranks import Ranks
from tests import small
from tests.ranks import free_port, run_distributed
from training.config import TrainConfig

LAYOUTS: dict[str, tuple[int, dict[str, Any]]] = {
    "without ZeRO": (2, {"zero_stage": 0}),
    "ZeRO-1": (2, {"zero_stage": 1}),
    "ZeRO-3": (2, {"zero_stage": 3}),
    "tensor": (2, {"tensor": 2, "zero_stage": 1}),
    "pipeline": (2, {"pipeline": 2}),
    "all": (8, {"tensor": 2, "pipeline": 2, "zero_stage": 1}),
}


def _groups(ranks: Ranks, config: TrainConfig, port: int) -> tuple[set[timedelta], set[Any]]:
    """The timeouts of all groups of a running engine, and the backends that were asked for."""
    asked: set[Any] = set()
    new_group = dist.new_group

    def recording(*arguments: Any, **options: Any) -> Any:
        asked.add(options.get("backend"))
        return new_group(*arguments, **options)

    ranks.disconnect()
    os.environ["MASTER_PORT"] = str(port)  # a slower rank must not meet the store that ends
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(dist, "new_group", recording)
        ranks.connect(torch.device("cpu"), timeout_minutes=config.run.collective_minutes)
        groups = Groups.connect(Layout.from_config(config, ranks.world_size), ranks)
        engine = parallelize(config, groups, torch.device("cpu"))
    timeouts = {
        group._get_backend(torch.device("cpu")).options._timeout
        for group in distributed_c10d._world.pg_map  # pyright: ignore[reportPrivateUsage]
    }
    engine.close()
    groups.disconnect()
    return timeouts, asked


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_groups_outlast_the_watchdog_and_take_the_default_backend(
    tmp_path: Path, layout: str
) -> None:
    num_ranks, parallel = LAYOUTS[layout]
    config = small.config(
        tmp_path,
        run={"folder": str(tmp_path / "run"), "watchdog_minutes": 50.0},
        parallel=parallel,
        training={"micro_batch_sequences": 1},
    )
    assert config.run.collective_minutes > config.run.watchdog_minutes
    for timeouts, asked in run_distributed(_groups, num_ranks, config, free_port()):
        assert timeouts == {timedelta(minutes=75)}
        # None: NCCL where the default group is NCCL's, and no mesh of sockets beside it.
        assert asked == {None}


@pytest.mark.parametrize(("minutes", "collective"), [(0.0, 30.0), (20.0, 30.0), (100.0, 150.0)])
def test_the_watchdog_decides_how_long_a_collective_may_take(
    tmp_path: Path, minutes: float, collective: float
) -> None:
    run = {"folder": str(tmp_path / "run"), "watchdog_minutes": minutes}
    assert small.config(tmp_path, run=run).run.collective_minutes == collective
