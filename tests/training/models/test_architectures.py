"""Each architecture against transformers: logits, folders both ways, sampling from the cache."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from tests.attention import packed
from tests.training.models.families import FAMILIES, randomise, shape
from training.models import huggingface
from training.models.attention import causal_attention
from training.models.cache import KeyValueCache
from training.models.heads import LanguageModel, Verifier

TOLERANCE = 1e-5
TOKENS = torch.randint(0, 320, (2, 24), generator=torch.Generator().manual_seed(1))
POSITIONS = torch.arange(24).expand(2, 24)

each_family = pytest.mark.parametrize("family", FAMILIES)


def _saved(model: LanguageModel | Verifier, folder: Path) -> Path:
    randomise(model)
    huggingface.save(model, folder, end_token=2)
    return folder


@each_family
def test_logits_equal_transformers(family: str, tmp_path: Path) -> None:
    model = LanguageModel(shape(family)).eval()
    theirs = AutoModelForCausalLM.from_pretrained(_saved(model, tmp_path))
    with torch.no_grad():
        expected: Tensor = theirs(TOKENS).logits
        found = model(TOKENS, POSITIONS, causal_attention)
        assert (found - expected).abs().max() < TOLERANCE
        # Two documents in a sequence are two sequences.
        documents = (torch.arange(24) >= 10).long().expand(2, 24)
        positions = torch.cat((torch.arange(10), torch.arange(14))).expand(2, 24)
        found = model(TOKENS, positions, packed(documents))
        for part in (slice(0, 10), slice(10, 24)):
            expected = theirs(TOKENS[:, part]).logits
            assert (found[:, part] - expected).abs().max() < TOLERANCE


@each_family
def test_scores_equal_a_sequence_classifiers(family: str, tmp_path: Path) -> None:
    model = Verifier(shape(family)).eval()
    theirs, info = AutoModelForSequenceClassification.from_pretrained(
        _saved(model, tmp_path), output_loading_info=True
    )
    assert not any(info.values())
    with torch.no_grad():
        found = model(TOKENS, POSITIONS, causal_attention)
        for length in (1, 9, 24):
            expected = theirs(TOKENS[:1, :length]).logits[0, 0]
            assert abs(float(found[0, length - 1] - expected)) < TOLERANCE


@each_family
def test_what_transformers_saves_is_read(family: str, tmp_path: Path) -> None:
    model = LanguageModel(shape(family)).eval()
    theirs = AutoModelForCausalLM.from_pretrained(_saved(model, tmp_path / "ours"))
    theirs.save_pretrained(tmp_path / "theirs")
    read = huggingface.load_language_model(tmp_path / "theirs")
    assert read.shape == model.shape
    for (name, value), (other_name, other) in zip(
        model.named_parameters(), read.named_parameters(), strict=True
    ):
        assert name == other_name and torch.equal(value, other), name
    verifier = huggingface.load_verifier(tmp_path / "theirs", seed=1)
    assert torch.equal(verifier.body.embedding.weight, model.body.embedding.weight)


@each_family
def test_generate_answers(family: str, tmp_path: Path) -> None:
    model = LanguageModel(shape(family)).eval()
    theirs: Any = AutoModelForCausalLM.from_pretrained(_saved(model, tmp_path))
    prompt = TOKENS[:1, :5]
    written = theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=6,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    ours = prompt
    for _ in range(6):
        positions = torch.arange(ours.shape[1])[None]
        with torch.no_grad():
            logits = model(ours, positions, causal_attention)
        ours = torch.cat((ours, logits[:, -1].argmax(-1)[:, None]), dim=1)
    assert torch.equal(written, ours)


@each_family
def test_the_cache_gives_the_logits_of_the_whole_sequence(family: str) -> None:
    model = LanguageModel(shape(family)).eval()
    randomise(model)
    cache = KeyValueCache(
        model.shape,
        max_sequences=5,
        max_groups=2,
        max_prompt_tokens=8,
        max_new_tokens=16,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    assert cache.prompt.shape[3] == model.shape.num_key_value_heads
    lengths, sizes = torch.tensor([8, 5]), torch.tensor([3, 2])
    prompts = TOKENS[:, :8]
    continuations = torch.randint(0, 320, (5, 4), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        model(prompts, torch.arange(8).expand(2, 8), cache.prefill(lengths, sizes))
        for step in range(4):
            written = torch.full((5,), step)
            tokens = continuations[:, step : step + 1]
            found = model(tokens, cache.positions(written), cache.step(written))[:, 0]
            for row in range(5):
                group = int(row >= 3)
                prompt = prompts[group, : lengths[group]]
                whole = torch.cat((prompt, continuations[row, : step + 1]))[None]
                expected = model(whole, torch.arange(whole.shape[1])[None], causal_attention)
                assert (found[row] - expected[0, -1]).abs().max() < TOLERANCE
