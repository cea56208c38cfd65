"""Sampling and scoring with other tokenizers: their prompts, ends and programs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.data import tokenizer_forms
from tests.training.data.tokenizer_forms import PROGRAM
from tests.training.evaluation import models
from training.config import EvaluationConfig, ExecutionConfig, SamplingConfig
from training.data.tokenizer import Tokenizer
from training.errors import ConfigError, DataError
from training.evaluation import benchmark, load
from training.evaluation import sampler as sampler_module
from training.evaluation.generate import Sampled, SampleRequest, generate
from training.evaluation.sampler import Sampler, draws
from training.execution.executor import Executor
from training.models.heads import LanguageModel, Verifier

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor.from_config(ExecutionConfig()) as one:
        yield one


@pytest.mark.parametrize("form", tokenizer_forms.FORMS)
@pytest.mark.parametrize("template", ["function", "chat"])
def test_what_a_model_writes_after_its_prompt_is_run(
    form: str,
    template: str,
    tmp_path: Path,
    executor: Executor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer = Tokenizer.load(tokenizer_forms.write(form, tmp_path)).with_template(template)
    question = models.questions(4)[3:]
    asked: list[SampleRequest] = []

    def written(
        _: Any, requests: Sequence[SampleRequest], *, end_token: Sequence[int], **rest: Any
    ) -> list[Sampled]:
        asked.extend(requests)
        assert list(end_token) == list(tokenizer.end_tokens)
        # As a model that continues the prompt would tokenise it: its first token has no space more.
        ids = tokenizer.program_ids("    return 3 + 4")[:-1]
        return [Sampled(tokens=ids, finished=True) for _ in requests]

    monkeypatch.setattr(sampler_module, "generate", written)
    found = Sampler(
        LanguageModel(models.shape(400)),
        tokenizer,
        executor,
        settings=SamplingConfig(max_new_tokens=12),
        seed=1,
        name="step_1",
    ).candidates(question, draws((0.5,), 1))
    assert [list(request.prompt) for request in asked] == [tokenizer.prompt_ids(question[0].text)]
    assert (found[0].program, found[0].verdict) == ("    return 3 + 4", "right")


def test_any_end_token_stops() -> None:
    model = models.generator()
    requests = [
        SampleRequest(prompt=[3, 4, 5 + number], key=(number,), temperature=1.0)
        for number in range(12)
    ]
    whole = generate(model, requests, end_token=-1, max_new_tokens=12)
    ends = (whole[0].tokens[3], whole[1].tokens[5])
    found = generate(model, requests, end_token=ends, max_new_tokens=12)
    for sampled, free in zip(found, whole, strict=True):
        stop = next((i for i, token in enumerate(free.tokens) if token in ends), None)
        assert sampled.tokens == free.tokens[:stop]
        assert sampled.finished == (stop is not None)
    stopped_by = {
        free.tokens[len(s.tokens)] for s, free in zip(found, whole, strict=True) if s.finished
    }
    assert stopped_by == set(ends)


def test_what_is_scored_has_the_verifiers_prompt(
    tmp_path: Path, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = Tokenizer.load(tokenizer_forms.write("qwen", tmp_path)).with_template("chat")
    scored: list[list[int]] = []

    def score(_: Any, sequences: Sequence[list[int]], **rest: Any) -> list[float]:
        scored.extend(sequences)
        return [0.0 for _ in sequences]

    monkeypatch.setattr(benchmark, "score", score)
    from tests.training.data.test_sources import candidate

    one = candidate(PROGRAM)
    benchmark.scorer_of(Verifier(models.shape(400)), tokenizer, EvaluationConfig())([one])
    assert scored == [[*tokenizer.prompt_ids(one.question), *tokenizer.program_ids(PROGRAM)]]


def test_a_generator_is_asked_as_it_was_trained_unless_it_says_nothing(tmp_path: Path) -> None:
    form = Tokenizer.load(tokenizer_forms.write("qwen", tmp_path / "qwen"))
    folder = models.write_generator(tmp_path / "model")
    form.save(folder)
    named = {"sampling.checkpoints.0": str(folder)}
    _, plain = load.load_generator(str(folder), CPU)
    _, asked = load.load_generator(str(folder), CPU, prompt_template="chat")
    assert (plain.template.setting, asked.template.setting) == ("function", "chat")
    load.refuse_other_prompts("sampling.prompt_template", "chat", named)
    form.with_template("chat").save(folder)
    assert load.load_generator(str(folder), CPU)[1].template.setting == "chat"
    load.refuse_other_prompts("sampling.prompt_template", "", named)
    load.refuse_other_prompts("sampling.prompt_template", "chat", named)
    message = r"sampling\.prompt_template = 'function', and sampling\.checkpoints\.0 = .* 'chat'"
    with pytest.raises(DataError, match=message):
        load.refuse_other_prompts("sampling.prompt_template", "function", named)
    without = {"sampling.checkpoints.0": str(models.write_generator(tmp_path / "without"))}
    with pytest.raises(ConfigError, match="no chat template"):
        load.refuse_other_prompts("sampling.prompt_template", "chat", without)


def test_an_evaluation_has_prompts_only_with_a_generator() -> None:
    EvaluationConfig(prompt_template="chat", generator="x")
    with pytest.raises(ValueError, match="without a generator"):
        EvaluationConfig(prompt_template="chat")
