"""Our sampling beside transformers': ours is recorded before their model is built."""

from collections.abc import Callable
from typing import Any

import torch

from tests.bench.gpu.engines import fresh_model
from tests.bench.gpu.record import Record, guarded
from tests.bench.gpu.sample import NO_END, TEMPERATURE, equal_prompts
from tests.bench.gpu.setting import Setting
from tests.bench.gpu.theirs import batch_generated, generated, with_weights_of
from training.config import TrainConfig
from training.evaluation.generate import SampleRequest, generate
from training.monitoring import metrics

_HOW: dict[str, Any] = {"do_sample": True, "temperature": TEMPERATURE, "top_k": 0, "top_p": 1.0}


def run(setting: Setting, record: Record) -> None:
    """The same prompts and numbers of tokens; every sequence is written to its full length."""
    record.note(
        "Random weights in bf16, no end token: every sequence is written to its full length, so "
        "nothing is gained here from finished sequences leaving the batch. Ours and "
        "generate_batch store the prompts' keys and values once for all candidates of a prompt "
        "where they can."
    )
    config = setting.config("1b3")
    num_prompts, each, prompt_tokens, new = (2, 4, 16, 8) if setting.toy else (32, 8, 96, 128)
    prompts = equal_prompts(config, count=num_prompts, tokens=prompt_tokens)
    all_prompts = [prompt for prompt in prompts for _ in range(each)]
    known: dict[str, Any] = {"sequences": len(all_prompts), "new_tokens": new}
    rate = None
    with guarded(record, setting, what="ours", **known):
        found = _ours(setting, config, prompts, each, new)
        record.row(what="ours", **known, **found)
        rate = found["tokens_per_second"]
    theirs: Any = None
    with guarded(record, setting, what="transformers' model", **known):
        ours = fresh_model(config.model, setting.device, torch.bfloat16)
        theirs = with_weights_of(ours, setting, config)
        del ours
    if theirs is None:
        return
    peers: dict[str, Callable[[], Any]] = {
        "transformers, generate": lambda: generated(theirs, all_prompts, new, **_HOW),
        "transformers, generate_batch": lambda: batch_generated(theirs, all_prompts, new, **_HOW),
    }
    for name, work in peers.items():
        with guarded(record, setting, what=name, **known):
            found = _timed(setting, work, len(all_prompts) * new)
            faster = rate / found["tokens_per_second"] if rate else None
            record.row(what=name, **known, **found, ours_is_faster_by=faster)


def _ours(
    setting: Setting, config: TrainConfig, prompts: list[list[int]], each: int, new: int
) -> dict[str, Any]:
    model = fresh_model(config.model, setting.device, torch.bfloat16).eval()
    requests = [
        SampleRequest(prompt=prompt, key=(number, index), temperature=TEMPERATURE)
        for number, prompt in enumerate(prompts)
        for index in range(each)
    ]
    count = len(requests)
    return _timed(
        setting,
        lambda: generate(model, requests, end_token=NO_END, max_new_tokens=new, max_batch=count),
        count * new,
    )


def _timed(setting: Setting, work: Callable[[], Any], tokens: int) -> dict[str, Any]:
    (seconds,) = setting.timed(work, warmup=1, repeats=1)
    return {
        "tokens_per_second": tokens / seconds,
        "peak_memory_gib": metrics.peak_memory_gib(setting.device),
    }
