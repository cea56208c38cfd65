"""How fast a verifier scores candidates: packed without padding, as `evaluate` does."""

from statistics import mean
from typing import Any, cast

import torch

from tests.bench.gpu.engines import fresh_model
from tests.bench.gpu.record import Record, guarded
from tests.bench.gpu.sample import Sizes
from tests.bench.gpu.setting import Setting, spread
from training.evaluation.score import score
from training.flops import training_flops
from training.models.heads import Verifier
from training.monitoring import metrics


def run(setting: Setting, record: Record) -> None:
    """The candidates of half of the questions that are sampled, each another program."""
    record.note(
        "what: most tokens in a forward pass. Prompt and program of every candidate, no two of "
        "them equal; a prompt is computed again for each of its candidates. Random weights, bf16."
    )
    sequences = _sequences(setting)
    for most_tokens in (256,) if setting.toy else (16_384, 65_536):
        known = {"what": f"{most_tokens} tokens", "candidates": len(sequences)}
        with guarded(record, setting, **known):
            record.row(**known, **_measured(setting, sequences, most_tokens))


def _sequences(setting: Setting) -> list[list[int]]:
    sizes = Sizes(setting)
    vocab_size = setting.config("1b3").model.vocab_size
    random = torch.Generator().manual_seed(2)
    mean_tokens = sizes.mean_tokens
    return [
        [
            *prompt,
            *torch.randint(
                1,
                vocab_size,
                (int(torch.randint(mean_tokens // 2, 3 * mean_tokens // 2, (), generator=random)),),
                generator=random,
            ).tolist(),
        ]
        for prompt in sizes.prompts(sizes.questions // 2)
        for _ in range(sizes.candidates)
    ]


def _measured(setting: Setting, sequences: list[list[int]], most_tokens: int) -> dict[str, Any]:
    config = setting.config("1b3").model.model_copy(update={"head": "verifier"})
    verifier = cast(Verifier, fresh_model(config, setting.device, torch.bfloat16))

    def work(chosen: list[list[int]]) -> list[float]:
        return score(verifier, chosen, max_batch_tokens=most_tokens)

    scores = work(sequences[: len(sequences) // 8])
    assert all(value == value for value in scores), "a score is not a number"
    seconds = setting.timed(lambda: work(sequences), warmup=0, repeats=2)
    lengths = [len(sequence) for sequence in sequences]
    # A forward pass is a third of a training step's operations.
    flops = (
        training_flops(
            config,
            tokens=sum(lengths),
            supervised=len(lengths),
            keys=sum(length * (length + 1) // 2 for length in lengths),
        )
        / 3
    )
    return {
        "tokens": sum(lengths),
        "candidates_per_second": len(sequences) / mean(seconds),
        "tokens_per_second": sum(lengths) / mean(seconds),
        "mfu": metrics.mfu(
            flops, mean(seconds), peak_flops=metrics.device_peak_flops(setting.device)
        ),
        "model_tflops": flops / mean(seconds) / 1e12,
        "spread": spread(seconds),
        "peak_memory_gib": metrics.peak_memory_gib(setting.device),
    }
