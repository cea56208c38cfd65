"""Sampling: 48 candidates of each of 64 questions, over our key-value cache."""

import math
from typing import Any

import torch
from torch import nn

from tests.bench.gpu.engines import fresh_model
from tests.bench.gpu.record import Record, guarded
from tests.bench.gpu.setting import Setting
from tests.bench.gpu.theirs import generated, with_weights_of
from training.config import TrainConfig
from training.evaluation.generate import SampleRequest, generate
from training.models.heads import LanguageModel
from training.monitoring import metrics

NO_END = -1
"""No token has this id, so that every sequence is written to its full length."""
END = 0
TEMPERATURE = 0.7
CANDIDATES = 48
"""Of a question, as in the recipe."""


def run(setting: Setting, record: Record) -> None:
    """Equal greedy tokens first; speed only then."""
    with guarded(record, setting, what="greedy tokens"):
        _check_greedy(setting, record)
    sizes = Sizes(setting)
    record.note(
        "what: sequences decoded at a time. Random weights, temperature 0.7, and an end token "
        f"whose probability makes a program about {sizes.mean_tokens} tokens long, at most "
        f"{sizes.most_tokens}; real programs vary less. A prompt's keys and values are stored and "
        "read once for all of its candidates. occupancy: tokens written, of forward passes x "
        "sequences. least_terabytes_per_second: weights once a pass, keys and values once a token."
    )
    model = sampled_model(setting, sizes.mean_tokens)
    requests = sizes.requests(sizes.questions)
    generate(model, requests[: sizes.live], end_token=END, max_new_tokens=8)
    for live, questions in sizes.runs:
        chosen = requests[: questions * sizes.candidates]
        with guarded(record, setting, what=f"{live} at a time"):
            record.row(**_measured(setting, model, chosen, live, sizes.most_tokens))


class Sizes:
    """How much is sampled."""

    def __init__(self, setting: Setting) -> None:
        toy = setting.toy
        self.questions = 4 if toy else 64
        self.candidates = 4 if toy else CANDIDATES
        self.prompt_tokens = 16 if toy else 80
        self.mean_tokens = 6 if toy else 150
        self.most_tokens = 10 if toy else 256
        self.live = 4 if toy else 512
        # Of the slowest fewer questions: its rate is known as well after half of them.
        self.runs = ((4, 4),) if toy else ((512, 64), (256, 32), (1024, 64))
        """Sequences at a time, and questions."""
        self._vocab_size = setting.config("1b3").model.vocab_size

    def prompts(self, count: int) -> list[list[int]]:
        """Of half to one and a half times the usual length."""
        random = torch.Generator().manual_seed(1)
        shortest = self.prompt_tokens // 2
        lengths = torch.randint(shortest, 3 * shortest + 1, (count,), generator=random).tolist()
        return [
            torch.randint(1, self._vocab_size, (length,), generator=random).tolist()
            for length in lengths
        ]

    def requests(self, questions: int) -> list[SampleRequest]:
        """All candidates of so many questions, in their order."""
        return [
            SampleRequest(prompt=prompt, key=(number, index), temperature=TEMPERATURE)
            for number, prompt in enumerate(self.prompts(questions))
            for index in range(self.candidates)
        ]


@torch.no_grad()
def sampled_model(setting: Setting, mean_tokens: int) -> LanguageModel:
    """The 1.3B shape in bf16, with an end token after about `mean_tokens` tokens."""
    config = setting.config("1b3").model
    model = fresh_model(config, setting.device, torch.bfloat16).eval()
    # After a LayerNorm without scale, logits of random weights are normal with this deviation.
    deviation = config.init_std * math.sqrt(config.hidden_size) / TEMPERATURE
    all_others = math.log(config.vocab_size) + deviation**2 / 2
    model.head.weight[END] = 0
    model.head.bias[END] = TEMPERATURE * (all_others - math.log(mean_tokens - 1))
    return model


def _measured(
    setting: Setting,
    model: LanguageModel,
    requests: list[SampleRequest],
    live: int,
    most_tokens: int,
) -> dict[str, Any]:
    forwards = 0

    def count() -> None:
        nonlocal forwards
        forwards += 1

    found: list[int] = []

    def work() -> None:
        sampled = generate(
            model,
            requests,
            end_token=END,
            max_new_tokens=most_tokens,
            max_batch=live,
            check_cancelled=count,
        )
        found.extend(len(each.tokens) + each.finished for each in sampled)

    (seconds,) = setting.timed(work, warmup=0, repeats=1)
    tokens = sum(found)
    return {
        "what": f"{live} at a time",
        "candidates": len(requests),
        "mean_tokens": tokens / len(requests),
        "tokens_per_second": tokens / seconds,
        "seconds": seconds,
        "forward_passes": forwards,
        "pass_milliseconds": seconds / forwards * 1e3,
        "occupancy": tokens / (forwards * live),
        "least_terabytes_per_second": least_bytes(model, requests, found, forwards)
        / seconds
        / 1e12,
        "peak_memory_gib": metrics.peak_memory_gib(setting.device),
    }


def least_bytes(
    model: LanguageModel, requests: list[SampleRequest], written: list[int], forwards: int
) -> float:
    """The fewest bytes that decoding reads: what bounds its speed.

    Every pass reads the weights, every token its own sequence's keys and values and its part of
    its prompt's, which all candidates of the question share.
    """
    size, shape = model.head.weight.element_size(), model.shape
    module: nn.Module = model
    embedding = model.body.embedding.weight.numel()
    weights = size * (sum(value.numel() for value in module.parameters()) - embedding)
    of_token = size * 2 * shape.num_layers * shape.hidden_size
    candidates = len(requests) / len({tuple(request.prompt) for request in requests})
    own = sum(count * (count - 1) / 2 for count in written)
    prompts = sum(
        count * len(request.prompt) / candidates
        for request, count in zip(requests, written, strict=True)
    )
    return forwards * weights + of_token * (own + prompts)


def _check_greedy(setting: Setting, record: Record) -> None:
    """In fp32 at a small size transformers' model must write the same tokens."""
    toy = Setting(device=setting.device, toy=True)
    config = toy.config("1b3")
    # Wide weights: flat distributions would be decided by rounding.
    wide = config.model.model_copy(update={"init_std": 0.3})
    ours = fresh_model(wide, setting.device).eval()
    theirs = with_weights_of(ours, setting, config)
    prompts, new = equal_prompts(config, count=6, tokens=24), 24
    requests = [SampleRequest(prompt=prompt, key=(i,)) for i, prompt in enumerate(prompts)]
    written = generate(ours, requests, end_token=NO_END, max_new_tokens=new)
    expected = generated(theirs, prompts, new, do_sample=False).tolist()
    record.row(
        what="greedy tokens equal transformers' (fp32, small)",
        tokens=len(prompts) * new,
        passed=[sampled.tokens for sampled in written] == expected,
    )


def equal_prompts(config: TrainConfig, *, count: int, tokens: int) -> list[list[int]]:
    """Random prompts of one length, which `generate` of transformers needs no padding for."""
    random = torch.Generator().manual_seed(1)
    return torch.randint(1, config.model.vocab_size, (count, tokens), generator=random).tolist()
