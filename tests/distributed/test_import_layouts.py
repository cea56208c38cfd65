"""Published weights into any layout: the same first loss, and no rank holds a whole model."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PhiConfig, PhiForCausalLM

from checkpoints import universal
from tests.distributed.alive import Alive
from tests.distributed.importing import Noted, train_all
from tests.layouts.cases import ONE, Case, prepared
from tests.ranks import run_distributed
from training.models import huggingface
from training.monitoring.metrics_file import read_lines

pytestmark = pytest.mark.slow

HEADS = ("language_model", "verifier")
LAYOUTS = (Case(tensor=2, pipeline=2), Case(data=2, zero=3))
# Deep: a piece is a tenth of the model, so that one held whole shows.
MODEL: dict[str, Any] = {
    "hidden_size": 64,
    "num_layers": 8,
    "num_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "ffn_size": 128,
    "vocab_size": 512,
    "max_tokens": 256,
    "init_std": 0.1,
}
# Biases of four bytes and the like that ZeRO rounds up to whole ranks.
SLACK_BYTES = 2048


def _publish(folder: Path) -> Path:
    """A generator as the hub has it: transformers' own, fp16, several files with an index."""
    torch.manual_seed(3)
    model = PhiForCausalLM(
        PhiConfig(
            vocab_size=512,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=8,
            num_attention_heads=4,
            max_position_embeddings=256,
            initializer_range=0.1,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "partial_rotary_factor": 0.5,
            },
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # biases and norms, too
    model.half().save_pretrained(folder, max_shard_size="200KB")
    assert len(list(folder.glob("model-0*.safetensors"))) > 3
    assert (folder / "model.safetensors.index.json").is_file()
    return folder


@dataclass(frozen=True)
class Imported:
    """The runs of this file: one step of each head at each layout."""

    folder: Path
    published: Path
    noted: dict[tuple[str, Case], list[Noted]] = field(default_factory=dict[Any, Any])
    """Of each rank."""

    def run(self, head: str, case: Case) -> Path:
        return self.folder / f"{head}_{case.name}".replace(" ", "_")

    def first_loss(self, head: str, case: Case) -> float:
        return float(next(read_lines(self.run(head, case)))["train/loss"])


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    folder = tmp_path_factory.mktemp("imported")
    runs = Imported(folder, _publish(folder / "published"))
    bases = {head: prepared(folder / f"data_{head}", head) for head in HEADS}
    for case in (ONE, *LAYOUTS):
        configs = [
            case.config(
                bases[head],
                runs.run(head, case),
                model=MODEL | {"initial_weights": str(runs.published)},
                training={"max_steps": 1},
                # So small that the step changes no weight: what is saved after it is what was read.
                optimizer={"learning_rate": 1e-30, "warmup_steps": 0},
            )
            for head in HEADS
        ]
        by_rank = run_distributed(train_all, case.num_ranks, configs, timeout=400)
        for head, noted in zip(HEADS, zip(*by_rank, strict=True), strict=True):
            runs.noted[head, case] = list(noted)
    return runs


@pytest.mark.parametrize("case", LAYOUTS, ids=lambda case: case.name)
@pytest.mark.parametrize("head", HEADS)
def test_the_first_loss_is_one_ranks(imported: Imported, head: str, case: Case) -> None:
    expected = imported.first_loss(head, ONE)
    # fp32 sums in another order.
    assert imported.first_loss(head, case) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("case", (ONE, *LAYOUTS), ids=lambda case: case.name)
@pytest.mark.parametrize("head", HEADS)
def test_every_tensor_is_the_published_one(imported: Imported, head: str, case: Case) -> None:
    seed = 1  # of the config: a verifier's head starts from it
    if head == "verifier":
        wanted = huggingface.load_verifier(imported.published, seed=seed)
    else:
        wanted = huggingface.load_language_model(imported.published)
    checkpoint = imported.run(head, case) / "checkpoints" / "step_1"
    for name, value in wanted.named_parameters():
        found = universal.read_tensor(checkpoint, name, "fp32", value.shape)
        torch.testing.assert_close(found, value.detach(), rtol=0, atol=1e-20, msg=name)


@pytest.mark.parametrize("head", HEADS)
def test_zero_3_holds_one_whole_piece_at_a_time(imported: Imported, head: str) -> None:
    for noted in imported.noted[head, Case(data=2, zero=3)]:
        assert noted.share <= noted.whole / 2 + SLACK_BYTES
        # It is a piece that is held, and no more than one.
        assert noted.largest_tensor < noted.not_yet_shared <= noted.largest_module + SLACK_BYTES
        # Of all tensors: the shares, a piece, and the tensor that is being read and cast.
        most = noted.share + noted.largest_module + 2 * noted.largest_tensor + SLACK_BYTES
        assert noted.filling <= most < 0.9 * noted.whole


@pytest.mark.parametrize("head", HEADS)
def test_tensor_and_pipeline_ranks_hold_their_parts_alone(imported: Imported, head: str) -> None:
    ranks = imported.noted[head, Case(tensor=2, pipeline=2)]
    for noted in ranks:
        assert noted.share == noted.not_yet_shared
        assert noted.share <= 0.3 * noted.whole
        assert noted.filling <= noted.share + 2 * noted.largest_tensor + SLACK_BYTES
    # Together once the model; a bias or a norm that is not cut lies on both of a stage's ranks.
    together = sum(noted.share for noted in ranks)
    assert ranks[0].whole <= together <= 1.02 * ranks[0].whole


@pytest.mark.parametrize("case", LAYOUTS, ids=lambda case: case.name)
@pytest.mark.parametrize("head", HEADS)
def test_whole_weights_come_out_a_piece_at_a_time(
    imported: Imported, head: str, case: Case
) -> None:
    for noted in imported.noted[head, case]:
        assert noted.gathering <= noted.largest_module + SLACK_BYTES


def test_what_is_alive_is_seen() -> None:
    kept = torch.zeros(1000)
    with Alive() as alive:
        doubled = kept + kept  # 4,000 bytes; `kept` was there before
        both = [doubled, doubled * 2.0]  # 8,000
        del doubled
        both.pop(0)  # 4,000
        both.append(both[0][:10].clone())
    assert alive.peak_bytes == 8000
