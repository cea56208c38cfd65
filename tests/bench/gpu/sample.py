"""Sampling: tokens a second over our key-value cache, beside transformers' `generate`."""

from statistics import mean, median
from typing import Any

import torch

from tests.bench.gpu.engines import fresh_model
from tests.bench.gpu.record import Record, short
from tests.bench.gpu.setting import Setting, spread
from tests.bench.gpu.theirs import with_weights_of
from training.config import TrainConfig
from training.evaluation.generate import SampleRequest, generate
from training.models.heads import LanguageModel
from training.monitoring import metrics

NO_END = -1
"""No token has this id, so that every sequence is written to its full length."""


def run(setting: Setting, record: Record) -> None:
    """Equal greedy tokens first; speed only then."""
    _check_greedy(setting, record)
    record.note(
        "Random weights, temperature 0.7, no end token: every sequence is written to its full "
        "length, so nothing is gained here from finished sequences leaving the batch. Ours "
        "stores a prompt's keys and values once for all of its candidates."
    )
    config = setting.config("1b3")
    sizes = (2, 4, 16, 8) if setting.toy else (32, 8, 96, 128)
    ours = fresh_model(config.model, setting.device, torch.bfloat16).eval()
    _compare(setting, record, config, ours, *sizes)


def _prompts(config: TrainConfig, count: int, tokens: int) -> list[list[int]]:
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, config.model.vocab_size, (count, tokens), generator=random).tolist()


def _theirs(model: Any, prompts: list[list[int]], each: int, new: int, **how: Any) -> Any:
    tokens = torch.tensor([prompt for prompt in prompts for _ in range(each)]).to(model.device)
    with torch.inference_mode():
        output = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=new,
            use_cache=True,
            pad_token_id=0,
            eos_token_id=None,
            **how,
        )
    return output[:, tokens.shape[1] :]


def _check_greedy(setting: Setting, record: Record) -> None:
    """In fp32 at a small size both must write the same tokens."""
    toy = Setting(device=setting.device, toy=True)
    config = toy.config("1b3")
    # Wide weights: flat distributions would be decided by rounding.
    wide = config.model.model_copy(update={"init_std": 0.3})
    ours = fresh_model(wide, setting.device).eval()
    theirs = with_weights_of(ours, setting, config)
    prompts, new = _prompts(config, 6, 24), 24
    requests = [SampleRequest(prompt=prompt, key=(i,)) for i, prompt in enumerate(prompts)]
    written = generate(ours, requests, end_token=NO_END, max_new_tokens=new)
    expected = _theirs(theirs, prompts, 1, new, do_sample=False).tolist()
    record.row(
        what="greedy tokens equal transformers' (fp32, small)",
        tokens=len(prompts) * new,
        passed=[sampled.tokens for sampled in written] == expected,
    )


def _compare(
    setting: Setting,
    record: Record,
    config: TrainConfig,
    ours: LanguageModel,
    num_prompts: int,
    each: int,
    prompt_tokens: int,
    new: int,
) -> None:
    prompts = _prompts(config, num_prompts, prompt_tokens)
    requests = [
        SampleRequest(prompt=prompt, key=(i, j), temperature=0.7)
        for i, prompt in enumerate(prompts)
        for j in range(each)
    ]
    batch = len(requests)
    theirs = with_weights_of(ours, setting, config)

    def we() -> None:
        generate(ours, requests, end_token=NO_END, max_new_tokens=new, max_batch=batch)

    def they() -> None:
        written = _theirs(
            theirs, prompts, each, new, do_sample=True, temperature=0.7, top_k=0, top_p=1.0
        )
        assert written.shape == (batch, new), written.shape

    known: dict[str, Any] = {
        "batch": batch,
        "prompts": num_prompts,
        "prompt_tokens": prompt_tokens,
        "new_tokens": new,
    }
    turns = 1 if setting.toy else 3
    seconds: dict[str, list[float]] = {"ours": [], "transformers": []}
    memory: dict[str, float] = {}
    try:
        for turn in range(turns):
            for name, work in (("ours", we), ("transformers", they)):
                setting.forget_memory()
                warmup = 1 if turn == 0 and not setting.toy else 0
                seconds[name] += setting.timed(work, warmup=warmup, repeats=1)
                memory[name] = metrics.peak_memory_gib(setting.device)
    except Exception as error:
        record.row(what="sampling", **known, error=short(error))
        return
    for name, found in seconds.items():
        record.row(
            what=name,
            **known,
            tokens_per_second=batch * new / mean(found),
            spread=spread(found),
            peak_memory_gib=memory[name],
        )
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["transformers"], strict=True)]
    record.row(
        what="ours / transformers",
        ratio=median(ratios),
        lowest_ratio=min(ratios),
        highest_ratio=max(ratios),
        turns=turns,
    )
