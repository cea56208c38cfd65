"""Exports from tensor 2 x pipeline 2 and from ZeRO-3 give the source's logits in transformers."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from launch.export import main
from tests.layouts.cases import MODEL, Case, prepared, train
from training.config import ModelConfig, TrainConfig
from training.execution.programs import prompt
from training.models.attention import causal_attention
from training.models.build import empty_model

pytestmark = pytest.mark.slow

HEADS = ("language_model", "verifier")
LAYOUTS = (Case(tensor=2, pipeline=2), Case(data=2, zero=3))
STEPS = 2
CHANGES = {"training": {"max_steps": STEPS}, "optimizer": {"warmup_steps": 0}}
QUESTION = "Ann has 31 plums and buys 4 more. How many has she now?"


@dataclass(frozen=True)
class Trained:
    """Two steps of each head at each layout, and its export."""

    folder: Path
    data: dict[str, TrainConfig]

    def run(self, head: str, case: Case) -> Path:
        return self.folder / f"{head}_{case.name}".replace(" ", "_")

    def exported(self, head: str, case: Case) -> Path:
        """The export, made when first asked for."""
        folder = self.folder / "exported" / self.run(head, case).name
        if not folder.exists():
            assert main([str(self.run(head, case)), str(folder)]) == 0
        return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    runs = Trained(folder, {head: prepared(folder / f"data_{head}", head) for head in HEADS})
    train(
        (case, case.config(runs.data[head], runs.run(head, case), **CHANGES))
        for case in LAYOUTS
        for head in HEADS
    )
    return runs


def _rows() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, MODEL["vocab_size"], (4, 48), generator=generator)


@torch.no_grad()
def _source_logits(run: Path, head: str, rows: Tensor) -> Tensor:
    """Logits `[rows, tokens, vocab]`, or scores `[rows]`, of what the state's files spell."""
    config = ModelConfig.model_validate({**MODEL, "head": head})
    model: Any = empty_model(config, "cpu").eval()
    states = run / "checkpoints" / f"step_{STEPS}" / "universal" / "zero"
    for name, parameter in model.named_parameters():
        parameter.copy_(torch.load(states / name / "fp32.pt", weights_only=True)["param"])
    positions = torch.arange(rows.shape[1]).expand_as(rows)
    found = model(rows, positions, causal_attention)
    return found if head == "language_model" else found[:, -1]


_READERS: dict[str, Callable[..., Any]] = {
    "language_model": AutoModelForCausalLM.from_pretrained,
    "verifier": AutoModelForSequenceClassification.from_pretrained,
}


@torch.no_grad()
def _their_logits(folder: Path, head: str, rows: Tensor) -> Tensor:
    model = _READERS[head](folder).eval()
    logits = torch.cat([model(row[None]).logits for row in rows])
    return logits if head == "language_model" else logits[:, 0]


@pytest.mark.parametrize("case", LAYOUTS, ids=lambda case: case.name)
@pytest.mark.parametrize("head", HEADS)
def test_transformers_gives_the_sources_logits(trained: Trained, head: str, case: Case) -> None:
    rows = _rows()
    # fp32 on both sides, sums in another order.
    expected = _source_logits(trained.run(head, case), head, rows)
    found = _their_logits(trained.exported(head, case), head, rows)
    assert float((found - expected).abs().max()) <= 1e-5
    assert float(expected.std()) > 1e-2  # no constant


@pytest.mark.parametrize("head", HEADS)
def test_layouts_export_the_same_model(trained: Trained, head: str) -> None:
    rows = _rows()
    one, other = (_their_logits(trained.exported(head, case), head, rows) for case in LAYOUTS)
    # Two steps of Adam apart in the order of their sums; other parts of a tensor would be far off.
    torch.testing.assert_close(one, other, rtol=0, atol=0.01 * float(other.std()))


@pytest.mark.parametrize("case", LAYOUTS, ids=lambda case: case.name)
def test_an_exported_generator_answers(trained: Trained, case: Case) -> None:
    folder = trained.exported("language_model", case)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    asked = tokenizer(prompt(QUESTION), return_tensors="pt")
    given = model.generate(**asked, max_new_tokens=8, do_sample=False)
    answer = given[0, asked["input_ids"].shape[1] :]
    assert 1 <= len(answer) <= 8
    assert tokenizer.decode(asked["input_ids"][0]) == prompt(QUESTION)
    facts = json.loads((folder / "manifest.json").read_text())["facts"]
    assert facts["largest_difference"] <= 1e-5
