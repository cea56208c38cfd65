"""The paper's 1.3B configuration: it builds whole on the meta device, and learns at cut depth."""

import numpy as np
import pytest

from parallel.groups import Groups
from parallel.layout import Layout
from parallel.parallelize import parallelize
from parallel.ranks import Ranks
from tests.ranks import ROOT, run_distributed
from training.config import TrainConfig, load
from training.data.micro_batch import collate
from training.data.pack import Mode, PackedSequence
from training.models.build import empty_model

pytestmark = pytest.mark.slow

CONFIG = ROOT / "configs" / "generator_1b3.toml"
FIXED = ("model.activation_checkpointing=true", "training.micro_batch_sequences=1")
"""What the file leaves to the card."""


def _losses(ranks: Ranks) -> list[float]:
    """Four steps of everything as the file has it but for depth, batch, device and precision.

    Without AVX-512 one bf16 product with the head takes a CPU two minutes.
    """
    changes = [*FIXED, "model.num_layers=1", "training.global_batch_sequences=1"]
    changes += ["data.sequence_length=96"]
    changes += ["training.device=cpu", "training.precision=fp32"]
    config = load(TrainConfig, [CONFIG], changes)
    groups = Groups.connect(Layout.from_config(config, ranks.world_size), ranks)
    engine = parallelize(config, groups, ranks.device("cpu"))
    sequence = PackedSequence(
        tokens=np.random.default_rng(0).integers(0, 50257, 96),
        lengths=np.array([20, 28, 20, 28]),
        modes=np.array([Mode.CONTEXT, Mode.SUPERVISED] * 2),
    )
    batch = collate([sequence], sequence_length=96, head="language_model")
    losses = [
        engine.train_step([batch], loss_normalizer=batch.weight, learning_rate=1e-3).item()
        for _ in range(4)
    ]
    engine.close()
    return [loss / batch.weight for loss in losses]


def test_it_builds_and_counts() -> None:
    model = empty_model(load(TrainConfig, [CONFIG], FIXED).model, "meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_418_270_720


def test_it_learns_at_cut_depth() -> None:
    (losses,) = run_distributed(_losses, 1)
    # ln(51,200) = 10.8 before it has learnt anything.
    assert 10.0 < losses[0] < 12.0
    assert losses[-1] < losses[0] - 0.5
