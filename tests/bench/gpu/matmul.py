"""What this machine's matrix units give torch at best: the ceiling of everything else."""

from functools import partial
from statistics import median

import torch

from tests.bench.gpu.record import Record
from tests.bench.gpu.sequences import SUPERVISED_FRACTION
from tests.bench.gpu.setting import Setting, spread

LAUNCHES = 10
"""Products in a row between two readings of the clock, so that waiting costs nothing."""


def _multiply(left: torch.Tensor, right: torch.Tensor) -> None:
    for _ in range(LAUNCHES):
        torch.mm(left, right)


def run(setting: Setting, record: Record) -> None:
    """bf16 products: one large cube, and the 1.3B model's own at 20,480 tokens."""
    config = setting.config("1b3")
    sequences = 2 if setting.toy else 16
    tokens = sequences * config.data.sequence_length
    hidden, ffn, vocab = (
        config.model.hidden_size,
        config.model.ffn_size,
        config.model.vocab_size,
    )
    side = 256 if setting.toy else 8192
    shapes = {
        "cube": (side, side, side),
        "query, key, value, output": (tokens, hidden, hidden),
        "fc1": (tokens, hidden, ffn),
        "fc2": (tokens, ffn, hidden),
        "head at supervised tokens": (int(SUPERVISED_FRACTION * tokens), hidden, vocab),
        "head at all tokens": (tokens, hidden, vocab),
    }
    for name, (m, k, n) in shapes.items():
        # Random, not zeros: a GPU multiplies zeros faster, at less power.
        left = torch.randn(m, k, device=setting.device, dtype=torch.bfloat16)
        right = torch.randn(k, n, device=setting.device, dtype=torch.bfloat16)
        repeats = 2 if setting.toy else 20
        seconds = setting.timed(partial(_multiply, left, right), warmup=2, repeats=repeats)
        flops = 2 * m * k * n * LAUNCHES
        record.row(
            product=name,
            m=m,
            k=k,
            n=n,
            tflops=flops / median(seconds) / 1e12,
            spread=spread(seconds),
        )
