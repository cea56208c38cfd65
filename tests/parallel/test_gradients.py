"""How gradients are added up: the same numbers as DeepSpeed's own ways."""
# pyright: reportPrivateUsage=false

from pathlib import Path

import pytest
import torch
from torch import Tensor

from parallel import backend
from parallel.groups import Groups
from parallel.layout import Layout
from parallel.parallelize import parallelize
from parallel.planning.trace import typical_micro_batch
from parallel.ranks import Ranks
from tests import small
from tests.ranks import run_distributed


def _trained(ranks: Ranks, folder: Path, plain: bool) -> dict[str, Tensor]:
    """Weights after three steps of three micro-batches in bf16."""
    config = small.config(
        folder,
        training={
            "precision": "bf16",
            "global_batch_sequences": 3 * ranks.world_size,
            "micro_batch_sequences": 1,
        },
        parallel={"zero_stage": 1},
    )
    with pytest.MonkeyPatch.context() as patched:
        if plain:
            patched.setattr(backend, "add_gradients_in_place", lambda _: None)
        groups = Groups.connect(Layout.from_config(config, ranks.world_size), ranks)
        engine = parallelize(config, groups, torch.device("cpu"))
    assert ("_update_hp_grad" in vars(engine._engine.optimizer)) != plain
    for seed in range(3):
        torch.manual_seed(seed)
        batches = [typical_micro_batch(config) for _ in range(3)]
        engine.train_step(batches, loss_normalizer=100.0, learning_rate=1e-3)
    found = {name: value.detach().clone() for name, value in engine.state.parameters.items()}
    engine.close()
    return found


def test_gradients_are_added_to_fp32_sums_as_deepspeed_adds_them(tmp_path: Path) -> None:
    lean = run_distributed(_trained, 2, tmp_path, False)[0]
    plain = run_distributed(_trained, 2, tmp_path, True)[0]
    assert lean.keys() == plain.keys() and lean
    assert all(torch.equal(lean[name], plain[name]) for name in lean)


def _alone(ranks: Ranks, folder: Path, summed: bool) -> tuple[list[Tensor], list[int]]:
    """Weights after three steps of ZeRO-0, and the sizes of the buffers that gradients filled."""
    config = small.config(
        folder,
        training={"global_batch_sequences": 2, "micro_batch_sequences": 1},
        parallel={"zero_stage": 0},
    )
    groups = Groups.connect(Layout.from_config(config, ranks.world_size), ranks)
    engine = parallelize(config, groups, torch.device("cpu"))
    if summed:
        engine._engine.enable_backward_allreduce = True
    buffers: list[int] = []
    flatten = engine._engine.flatten

    def counted(tensors: list[Tensor]) -> Tensor:
        buffers.append(sum(tensor.numel() for tensor in tensors))
        return flatten(tensors)

    engine._engine.flatten = counted
    for seed in range(3):
        torch.manual_seed(seed)
        batches = [typical_micro_batch(config) for _ in range(2)]
        engine.train_step(batches, loss_normalizer=100.0, learning_rate=1e-3)
    found = [value.detach().clone() for value in engine.state.parameters.values()]
    engine.close()
    return found, buffers


def test_a_rank_alone_copies_no_gradients_to_sum_them(tmp_path: Path) -> None:
    (found, none), (expected, buffers) = (
        run_distributed(_alone, 1, tmp_path, summed)[0] for summed in (False, True)
    )
    assert not none and buffers
    assert all(map(torch.equal, found, expected))
