"""Would one product for query, key, value and fc1 pay? `python -m tests.bench.fused_products`

The four read the same input. Fused, their weights are one matrix: one product forward, one
for each gradient, and one input that is read once; but tensor parts of four matrices lie
in it side by side, which every gather, export and change of layout would have to take
apart. Printed is separate time / fused time, forward and backward, in one run, interleaved,
for the parts that a rank holds at each tensor degree.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

HIDDEN, FFN = 2048, 8192
"""The 1.3B shape."""


def main() -> None:
    """Measure and print Markdown."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--tokens", type=int, default=512)
    arguments.add_argument("--repeats", type=int, default=7)
    asked = arguments.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print("| dtype | tensor degree | separate ÷ fused (median) | spread |\n|---|---|---|---|")
    for dtype in (torch.float32, torch.bfloat16):
        for degree in (1, 2, 4, 8):
            ratios = _ratios(degree, asked.tokens, asked.repeats, device, dtype)
            low, high = min(ratios), max(ratios)
            name = str(dtype).removeprefix("torch.")
            print(f"| {name} | {degree} | {statistics.median(ratios):.3f} | {low:.3f}–{high:.3f} |")


def _ratios(
    degree: int, tokens: int, repeats: int, device: torch.device, dtype: torch.dtype
) -> list[float]:
    widths = [HIDDEN // degree] * 3 + [FFN // degree]
    with device:
        separate = nn.ModuleList(nn.Linear(HIDDEN, width) for width in widths).to(dtype)
        fused = nn.Linear(HIDDEN, sum(widths)).to(dtype)
        hidden = torch.randn(tokens, HIDDEN, dtype=dtype, requires_grad=True)
    runs: tuple[Callable[[], list[Tensor]], ...] = (
        lambda: [linear(hidden) for linear in separate],
        lambda: list(fused(hidden).split(widths, dim=-1)),
    )
    seconds = [[_seconds(run, device) for run in runs] for _ in range(repeats + 1)]
    return [apart / together for apart, together in seconds[1:]]  # the first warms up


def _seconds(run: Callable[[], list[Tensor]], device: torch.device) -> float:
    started = time.perf_counter()
    torch.stack([output.sum() for output in run()]).sum().backward()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
