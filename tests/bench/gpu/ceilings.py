"""What this device gives torch at best: matrix products, and moving memory.

Every other rate of the suite is read against these two ceilings (`expected.py`).
"""

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch

from tests.bench.gpu.record import Record, guarded
from tests.bench.gpu.sequences import SUPERVISED_FRACTION
from tests.bench.gpu.setting import Setting, spread

LAUNCHES = 10
"""Operations in a row between two readings of the clock, so that waiting costs nothing."""


def run(setting: Setting, record: Record) -> None:
    """bf16 products, one large cube and the 1.3B model's own at 20,480 tokens; then memory."""
    for name, shape in _products(setting).items():
        with guarded(record, setting, what=name):
            _multiply(setting, record, name, *shape)
    num_elements = 2**16 if setting.toy else 2**29
    for name, (make, num_bytes) in _MOVES.items():
        with guarded(record, setting, what=name):
            moved = num_bytes * num_elements
            seconds = _timed(setting, make(num_elements, setting.device))
            record.row(
                what=name,
                gigabytes=moved / 1e9,
                terabytes_per_second=moved * LAUNCHES / median(seconds) / 1e12,
                spread=spread(seconds),
            )


def _products(setting: Setting) -> dict[str, tuple[int, int, int]]:
    config = setting.config("1b3")
    tokens = (2 if setting.toy else 16) * config.data.sequence_length
    hidden, ffn, vocab = config.model.hidden_size, config.model.ffn_size, config.model.vocab_size
    side = 256 if setting.toy else 8192
    return {
        "cube": (side, side, side),
        "query, key, value, output": (tokens, hidden, hidden),
        "fc1": (tokens, hidden, ffn),
        "fc2": (tokens, ffn, hidden),
        "head at supervised tokens": (int(SUPERVISED_FRACTION * tokens), hidden, vocab),
        "head at all tokens": (tokens, hidden, vocab),
    }


def _multiply(setting: Setting, record: Record, name: str, m: int, k: int, n: int) -> None:
    # Random, not zeros: a GPU multiplies zeros faster, at less power.
    left = torch.randn(m, k, device=setting.device, dtype=torch.bfloat16)
    right = torch.randn(k, n, device=setting.device, dtype=torch.bfloat16)
    seconds = _timed(setting, lambda: torch.mm(left, right))
    record.row(
        what=name,
        m=m,
        k=k,
        n=n,
        tflops=2 * m * k * n * LAUNCHES / median(seconds) / 1e12,
        spread=spread(seconds),
    )


def _timed(setting: Setting, operation: Callable[[], Any]) -> list[float]:
    def several() -> None:
        for _ in range(LAUNCHES):
            operation()

    return setting.timed(several, warmup=2, repeats=2 if setting.toy else 12)


def _copy(count: int, device: torch.device) -> Callable[[], Any]:
    source = torch.randn(count, device=device, dtype=torch.bfloat16)
    return partial(torch.empty_like(source).copy_, source)


def _add(dtype: torch.dtype, count: int, device: torch.device) -> Callable[[], Any]:
    left, right = (torch.randn(count, device=device, dtype=dtype) for _ in range(2))
    return partial(torch.add, left, right, out=torch.empty_like(left))


def _accumulate(count: int, device: torch.device) -> Callable[[], Any]:
    total = torch.randn(count, device=device)
    return partial(total.add_, torch.randn(count, device=device, dtype=torch.bfloat16))


_Move = Callable[[int, torch.device], Callable[[], Any]]
_MOVES: dict[str, tuple[_Move, int]] = {
    "copy, bf16": (_copy, 4),
    "a + b, bf16": (partial(_add, torch.bfloat16), 6),
    "a + b, fp32": (partial(_add, torch.float32), 12),
    "fp32 sum + bf16 gradient": (_accumulate, 10),
}
"""How each is made, and the bytes it reads and writes for an element."""
