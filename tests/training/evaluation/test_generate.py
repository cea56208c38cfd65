"""Sampling: greedy against transformers' `generate`, randomness that is each one's own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PhiForCausalLM

from tests.initial_values import initialise
from tests.training.evaluation import models
from training.evaluation.generate import Sampled, SampleRequest, choose, generate, uniforms
from training.lifecycle.signals import Stopped
from training.models import huggingface
from training.models.attention import causal_attention
from training.models.heads import LanguageModel
from training.models.shape import ModelShape

SHAPE = ModelShape(
    hidden_size=32, num_layers=2, num_heads=2, ffn_size=64, vocab_size=53, max_tokens=96
)
NEW_TOKENS = 24
NEVER = 52  # a token that the model never writes


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    built = LanguageModel(SHAPE)
    initialise(built, seed=2, std=0.5)
    with torch.no_grad():
        built.head.bias[NEVER] = -100.0
    return built


def prompts() -> list[list[int]]:
    generator = np.random.default_rng(0)
    lengths = [5, 1, 17, 5, 9, 2, 30, 12, 8, 3, 21]
    return [generator.integers(0, 53, length).tolist() for length in lengths]


def greedy() -> list[SampleRequest]:
    return [SampleRequest(prompt=prompt, key=(0, i)) for i, prompt in enumerate(prompts())]


def transformers_greedy(folder: Path, end_token: int) -> list[Sampled]:
    theirs: Any = PhiForCausalLM.from_pretrained(folder).eval()
    results: list[Sampled] = []
    for prompt in prompts():
        output = theirs.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            eos_token_id=end_token,
            pad_token_id=end_token,
        )
        new = output[0, len(prompt) :].tolist()
        finished = new[-1] == end_token
        results.append(Sampled(tokens=new[:-1] if finished else new, finished=finished))
    return results


@pytest.mark.parametrize("max_batch", [1, 7, 64])
@pytest.mark.parametrize("reached", [True, False])
def test_greedy_equals_transformers(
    model: LanguageModel, tmp_path: Path, max_batch: int, reached: bool
) -> None:
    huggingface.save(model, tmp_path)
    never = transformers_greedy(tmp_path, NEVER)
    assert not any(sampled.finished for sampled in never)
    end_token = NEVER
    if reached:  # a token that several continuations hold, at different places
        written = [set(sampled.tokens) for sampled in never]
        end_token = max(range(53), key=lambda token: sum(token in held for held in written))
    expected = transformers_greedy(tmp_path, end_token)
    assert any(sampled.finished for sampled in expected) == reached
    actual = generate(
        model, greedy(), end_token=end_token, max_new_tokens=NEW_TOKENS, max_batch=max_batch
    )
    assert actual == expected


def sampling(temperature: float = 0.9, top_p: float = 1.0, each: int = 6) -> list[SampleRequest]:
    return [
        SampleRequest(prompt=prompt, key=(3, i, j), temperature=temperature, top_p=top_p)
        for i, prompt in enumerate(prompts())
        for j in range(each)
    ]


@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_samples_do_not_depend_on_their_company(model: LanguageModel, top_p: float) -> None:
    requests = sampling(top_p=top_p)
    together = generate(model, requests, end_token=7, max_new_tokens=NEW_TOKENS)
    assert len({tuple(sampled.tokens) for sampled in together}) > len(requests) // 2
    assert {sampled.finished for sampled in together} == {True, False}
    for max_batch in (5, 16):
        apart = generate(
            model, requests, end_token=7, max_new_tokens=NEW_TOKENS, max_batch=max_batch
        )
        assert apart == together, max_batch
    order = np.random.default_rng(1).permutation(len(requests))
    half = [requests[i] for i in order[: len(order) // 2]]
    shuffled = generate(model, half, end_token=7, max_new_tokens=NEW_TOKENS, max_batch=9)
    assert shuffled == [together[i] for i in order[: len(order) // 2]]


def test_greedy_and_sampled_mix(model: LanguageModel) -> None:
    mixed = [
        request if number % 2 else replace(request, temperature=0.0)
        for number, request in enumerate(sampling(each=2))
    ]
    results = generate(model, mixed, end_token=7, max_new_tokens=NEW_TOKENS)
    expected = generate(model, greedy(), end_token=7, max_new_tokens=NEW_TOKENS)
    assert results[::2] == expected


def test_sampling_draws_from_the_tempered_distribution(model: LanguageModel) -> None:
    prompt = prompts()[2]
    count, temperature = 4000, 0.8
    requests = [
        SampleRequest(prompt=prompt, key=(i,), temperature=temperature) for i in range(count)
    ]
    sampled = generate(model, requests, end_token=-1, max_new_tokens=1, max_batch=1000)
    drawn = np.bincount([result.tokens[0] for result in sampled], minlength=53) / count
    tokens = torch.tensor([prompt])
    with torch.no_grad():
        logits = model(tokens, torch.arange(tokens.shape[1])[None], causal_attention)[0, -1]
    expected = (logits / temperature).softmax(-1).numpy()
    # Four standard errors of a share of `count` draws, and a floor for rare tokens.
    assert (abs(drawn - expected) < 4 * np.sqrt(expected / count) + 1e-3).all()


def test_choose_inverts_the_distribution() -> None:
    probabilities = torch.tensor([[0.5, 0.0, 0.3, 0.2]]).repeat(6, 1)
    uniform = torch.tensor([0.0, 0.49, 0.51, 0.79, 0.81, 1 - 2**-53], dtype=torch.float64)
    one = torch.ones(6)
    assert choose(probabilities.log(), one, one, uniform).tolist() == [0, 0, 2, 2, 3, 3]
    # Within 0.6 of the mass: the first and the third, rescaled to 5 : 3.
    assert choose(probabilities.log(), one, one * 0.6, uniform).tolist() == [0, 0, 0, 2, 2, 2]
    assert choose(probabilities.log(), one * 0, one, uniform).tolist() == [0] * 6


def test_top_p_of_a_flat_distribution_sorts_the_whole_row() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 500, generator=generator) * 0.1
    uniform = torch.full((3,), 1 - 1e-9, dtype=torch.float64)
    top_p = torch.tensor([0.9, 0.05, 1.0])
    # The last token in vocabulary order inside the nucleus.
    expected: list[int] = []
    for row, share in zip(logits.softmax(-1), top_p.tolist(), strict=True):
        ordered, order = row.sort(descending=True)
        before = ordered.cumsum(0) - ordered
        expected.append(int(order[before < share].max()) if share < 1 else 499)
    assert choose(logits, torch.ones(3), top_p, uniform).tolist() == expected


def test_padding_of_the_vocabulary_is_never_written(model: LanguageModel) -> None:
    requests = sampling(temperature=3.0)
    free = generate(model, requests, end_token=-1, max_new_tokens=8)
    assert max(max(sampled.tokens) for sampled in free) >= 40
    bounded = generate(model, requests, end_token=-1, max_new_tokens=8, num_token_ids=40)
    assert max(max(sampled.tokens) for sampled in bounded) < 40


def test_results_are_reported_as_they_finish(model: LanguageModel) -> None:
    seen: dict[int, Sampled] = {}
    results = generate(
        model,
        sampling(),
        end_token=7,
        max_new_tokens=NEW_TOKENS,
        max_batch=10,
        on_finished=seen.__setitem__,
    )
    assert [seen[number] for number in range(len(results))] == results


def test_keys_of_another_length_are_other_streams() -> None:
    streams = {tuple(uniforms(key, 3)) for key in [(1,), (1, 0), (0, 1), (10,), (1, 0, 0)]}
    assert len(streams) == 5
    assert (uniforms((1, 2), 3) == uniforms((1, 2), 5)[:3]).all()


def test_training_mode_is_given_back(model: LanguageModel) -> None:
    model.train()
    generate(model, greedy()[:1], end_token=7, max_new_tokens=2)
    assert model.training


def test_bad_requests_are_refused(model: LanguageModel) -> None:
    assert generate(model, [], end_token=7, max_new_tokens=2) == []
    with pytest.raises(ValueError, match="no tokens"):
        generate(model, [SampleRequest(prompt=[], key=(0,))], end_token=7, max_new_tokens=2)
    with pytest.raises(ValueError, match="max_new_tokens = 0"):
        generate(model, greedy(), end_token=7, max_new_tokens=0)


def test_a_diverged_model_is_an_error_not_a_sample() -> None:
    broken = LanguageModel(SHAPE)
    with torch.no_grad():
        broken.head.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="not finite"):
        generate(broken, sampling(), end_token=7, max_new_tokens=2)


def test_a_safe_point_lies_before_every_token(model: LanguageModel) -> None:
    leave = models.LeavesAt(3)
    with pytest.raises(Stopped):
        generate(model, greedy(), end_token=NEVER, max_new_tokens=8, check_cancelled=leave)
    assert leave.calls == 3
