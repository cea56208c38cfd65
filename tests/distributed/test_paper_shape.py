"""The paper's 1.3B configuration: it builds whole on the meta device, and learns at cut depth."""

from pathlib import Path

import pytest

from tests.ranks import ROOT, run_ranks
from training.config import TrainConfig, load
from training.models.build import empty_model

pytestmark = pytest.mark.slow

CONFIG = ROOT / "configs" / "generator_1b3.toml"

_SCRIPT = """
import sys
import numpy as np
from parallel.groups import Groups
from parallel.layout import Layout
from parallel.parallelize import parallelize
from parallel.ranks import discover
from training.config import TrainConfig, load
from training.data.loader import collate
from training.data.pack import Mode
from training.data.shards import PackedSequence

# Everything as the file has it but for depth, the rows of a step, where the weights are, and
# the precision: without AVX-512 one bf16 product with the head takes a CPU two minutes.
config = load(TrainConfig, [sys.argv[1]], [
    "model.num_layers=1", "training.global_batch_sequences=1", "training.micro_batch_sequences=1",
    "data.sequence_length=96", "training.device=cpu", "training.precision=fp32",
])
ranks = discover()
device = ranks.device("cpu")
ranks.connect(device)
groups = Groups.connect(Layout.from_config(config, ranks.world_size), ranks)
engine = parallelize(config, groups, device)
tokens = np.random.default_rng(0).integers(0, 50257, 96)
sequence = PackedSequence(tokens=tokens, lengths=np.array([20, 28, 20, 28]),
                          modes=np.array([Mode.CONTEXT, Mode.SUPERVISED] * 2))
batch = collate([sequence], sequence_length=96, head="language_model")
for _ in range(4):
    loss = engine.train_step([batch], loss_normalizer=batch.weight, learning_rate=1e-3)
    print(f"loss {loss.item() / batch.weight:.4f}")
engine.close()
ranks.disconnect()
"""


def test_it_builds_and_counts() -> None:
    model = empty_model(load(TrainConfig, [CONFIG]).model, "meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_418_270_720


def test_it_learns_at_cut_depth(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    extra = {"PYTHONPATH": str(ROOT)}
    output = run_ranks(1, [str(script), str(CONFIG)], extra=extra)[0].stdout
    losses = [float(line.split()[1]) for line in output.splitlines() if line.startswith("loss")]
    assert len(losses) == 4
    # ln(51,200) = 10.8 before it has learnt anything.
    assert 10.0 < losses[0] < 12.0
    assert losses[-1] < losses[0] - 0.5
