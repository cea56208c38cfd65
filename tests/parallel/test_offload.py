# pyright: reportPrivateUsage=false
"""ZeRO-2 with its optimizer in main memory: the numbers and the checkpoints are ZeRO-2's.

Here the device is the CPU as well, so this shows the arithmetic, the state and its size, and not
the copies between a GPU and main memory.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from parallel.groups import Groups
from parallel.layout import Layout
from parallel.parallelize import parallelize
from parallel.planning.communication import held_bytes
from parallel.planning.plan import make_plan
from parallel.ranks import Ranks
from tests import small
from tests.distributed.plan_measured import tensors_in
from tests.ranks import run_distributed
from training.config import TrainConfig
from training.data.step_batches import StepBatches

NUM_RANKS, STEPS = 2, 6


def _config(folder: Path, offload: bool) -> TrainConfig:
    return small.config(
        folder,
        training={"precision": "bf16", "micro_batch_sequences": 2},
        parallel={"zero_stage": 2, "offload_optimizer": offload},
    )


def _trained(ranks: Ranks, folder: Path, offload: bool, stop_at: int) -> dict[str, Any]:
    """Losses, norms, states and held bytes; stopped and resumed in another engine on the way."""
    config, device = _config(folder, offload), ranks.device("cpu")
    layout = Layout.from_config(config, ranks.world_size)
    groups = Groups.connect(layout, ranks)
    data = StepBatches(
        config,
        ranks,
        data_rank=ranks.rank,
        data_degree=ranks.world_size,
        device=device,
    )
    engine = parallelize(config, groups, device)
    numbers: list[tuple[float, float]] = []
    for step in range(STEPS):
        if step == stop_at:
            saved = _states(engine, ranks)
            engine.close()
            engine = parallelize(config, groups, device)
            engine.state.restore(lambda *key, saved=saved: saved[key], step=step)
        found = data.next_step(is_last=step == STEPS - 1)
        weight = found.loss_normalizer
        loss = engine.train_step(found.batches, loss_normalizer=weight, learning_rate=1e-2)
        assert engine.grad_norm is not None
        numbers.append((float(loss) / weight, float(engine.grad_norm)))
    assert engine.state.is_finite()
    held = _held(engine) if offload else {}
    states = _states(engine, ranks)
    data.close()
    engine.close()
    groups.disconnect()
    return {"numbers": numbers, "states": states, "held": held}


def _states(engine: Any, ranks: Ranks) -> dict[tuple[str, ...], Tensor]:
    """Those of all ranks, each of which saves some."""
    mine = {(each.name, each.state): each.value.clone() for each in engine.state.to_save()}
    return {key: value for found in ranks.gather(mine) for key, value in found.items()}


def _held(engine: Any) -> dict[str, int]:
    optimizer = engine._engine.optimizer
    host = [
        optimizer.single_partition_of_fp32_groups,
        [value.grad for value in optimizer.single_partition_of_fp32_groups],
        list(optimizer.optimizer.state.values()),
        optimizer.param_buffer_of_bit16_for_cpu_offload_groups,
        optimizer.temp_grad_buffer_for_cpu_offload,
    ]
    return {"host_bytes": held_bytes(list(tensors_in(host)))}


def _compare(ranks: Ranks, folder: Path) -> dict[str, Any]:
    ranks.on_main(lambda: small.prepared(folder))
    usual = _trained(ranks, folder, False, stop_at=STEPS)
    offloaded = _trained(ranks, folder, True, stop_at=STEPS)
    resumed = _trained(ranks, folder, True, stop_at=3)
    return {
        "numbers": [run["numbers"] for run in (usual, offloaded, resumed)],
        "differing": [
            str(name)
            for run in (offloaded, resumed)
            for name, value in usual["states"].items()
            if not run["states"][name].equal(value)
        ],
        "held": offloaded["held"],
    }


def test_an_optimizer_in_main_memory_changes_no_number(tmp_path: Path) -> None:
    config = _config(tmp_path, True)
    layout = Layout.from_config(config, NUM_RANKS)
    for rank, found in enumerate(run_distributed(_compare, NUM_RANKS, tmp_path, timeout=200)):
        usual, offloaded, resumed = found["numbers"]
        assert len(usual) == STEPS and usual[0] != usual[-1]
        assert offloaded == usual and resumed == usual
        assert found["differing"] == []
        plan = make_plan(config, layout, rank=rank)
        assert found["held"] == {"host_bytes": plan.mine.host_bytes}
        assert plan.mine.optimizer_bytes == 0
