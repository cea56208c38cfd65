"""The paper's 1.3B configuration: it builds whole on the meta device, and learns at cut depth."""

from pathlib import Path

from tests.ranks import ROOT, run_ranks
from training.config import TrainConfig, load
from training.models.build import empty_model

CONFIG = ROOT / "configs" / "generator_1b3.toml"

_SCRIPT = """
import sys
import torch
from parallel.engine import Engine
from parallel.ranks import discover
from training.config import TrainConfig, load
from training.losses import language_model_loss
from training.models.attention import PackedAttention
from training.models.build import build_model

# Everything as the file has it but for depth, the rows of a step and where the weights are.
config = load(TrainConfig, [sys.argv[1]], [
    "model.num_layers=1", "training.global_batch_rows=1", "training.micro_batch_rows=1",
    "data.row_tokens=96", "training.device=cpu",
])
ranks = discover()
device = ranks.device("cpu")
ranks.connect(device)
engine = Engine(build_model(config.model, seed=1), config=config, ranks=ranks, device=device)
generator = torch.Generator().manual_seed(0)
tokens = torch.randint(0, 50257, (1, 96), generator=generator)
positions = torch.arange(48).repeat(2)[None]
documents = torch.arange(2).repeat_interleave(48)[None]
at = torch.arange(20, 47)
weights = torch.ones(len(at))
for _ in range(4):
    engine.train()
    logits = engine(tokens, positions, PackedAttention(documents), at=at)
    loss = language_model_loss(logits, tokens[0, at + 1], weights) / len(at)
    engine.backward(loss)
    engine.step(1e-3)
    print(f"loss {loss.item():.4f}")
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
    output = run_ranks(1, [str(script), str(CONFIG)], timeout=500, extra=extra)[0].stdout
    losses = [float(line.split()[1]) for line in output.splitlines() if line.startswith("loss")]
    assert len(losses) == 4
    # ln(51,200) = 10.8 before it has learnt anything.
    assert 10.0 < losses[0] < 12.0
    assert losses[-1] < losses[0] - 0.5
