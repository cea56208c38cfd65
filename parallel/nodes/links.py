"""Test the links between the nodes of a job: a correct all-reduce, and each pair's bandwidth.

    problems = measure(store, ranks, name, device, mib_per_message=64, min_gib_per_second=0.0)

One process per node: NCCL between GPUs, gloo between CPUs. The bandwidth is that of one GPU's
network card: compare it between pairs rather than with a data sheet.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import (
    PrefixStore,  # pyright: ignore[reportPrivateImportUsage]
    Store,  # pyright: ignore[reportPrivateImportUsage]
)

from parallel.ranks import Ranks

_TIMEOUT = timedelta(seconds=180.0)

Pair = tuple[int, int]


def measure(
    store: Store,
    ranks: Ranks,
    name: str,
    device: torch.device,
    *,
    mib_per_message: int,
    min_gib_per_second: float,
) -> list[str]:
    """Connect all nodes, check an all-reduce over them, then measure every pair.

    Args:
        store: Shared by the nodes.
        ranks: One process per node.
        name: This node's.
        device: Sends and receives.
        mib_per_message: Size of the message.
        min_gib_per_second: Of the slowest pair; 0: no limit.

    Returns:
        One line for each wrong or slow link; rank 0 prints all bandwidths.

    Raises:
        RuntimeError: a link failed.
    """
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=PrefixStore("links", store),
        rank=ranks.rank,
        world_size=ranks.world_size,
        timeout=_TIMEOUT,
    )
    try:
        message = torch.ones(mib_per_message << 18, device=device)  # float32
        seconds = _timed(lambda: dist.all_reduce(message), device)
        expected = float(ranks.world_size) ** 2  # reduced twice
        is_correct = bool((message == expected).all())
        speeds = _pair_speeds(message, ranks, mib_per_message / 1024)
        found = ranks.gather((name, is_correct, speeds))
    finally:
        dist.destroy_process_group()
    names = [node for node, _, _ in found]
    slowest: dict[Pair, float] = {}
    for pair, speed in (item for _, _, speeds in found for item in speeds.items()):
        slowest[pair] = min(speed, slowest.get(pair, speed))
    if ranks.is_main:
        sent = 2 * (ranks.world_size - 1) / ranks.world_size  # of a ring all-reduce
        _show(names, sent * mib_per_message / 1024 / seconds, slowest)
    wrong = [
        f"{node} got a wrong sum of an all-reduce over all nodes: a link or a GPU corrupts"
        for node, is_correct, _ in found
        if not is_correct
    ]
    return wrong + slow_pairs(names, slowest, min_gib_per_second)


def _pair_speeds(message: torch.Tensor, ranks: Ranks, gib: float) -> dict[Pair, float]:
    """GiB/s to each other node, one way."""
    speeds: dict[Pair, float] = {}
    for pair in (pair for pairs in rounds(ranks.world_size) for pair in pairs):
        if ranks.rank in pair:
            seconds = _timed(
                lambda pair=pair: _there_and_back(message, pair, ranks), message.device
            )
            speeds[pair] = 2 * gib / seconds
    return speeds


def rounds(num_nodes: int) -> list[list[Pair]]:
    """Every pair once, in rounds in which no node has two partners (round robin)."""
    seats = list(range(num_nodes + num_nodes % 2))
    schedule: list[list[Pair]] = []
    for _ in range(len(seats) - 1):
        half = len(seats) // 2
        facing = zip(seats[:half], reversed(seats[half:]), strict=True)
        schedule.append([(min(p), max(p)) for p in facing if max(p) < num_nodes])
        seats = [seats[0], seats[-1], *seats[1:-1]]
    return schedule


def slow_pairs(names: Sequence[str], speeds: Mapping[Pair, float], limit: float) -> list[str]:
    """One line for each pair below the limit, with the names of both nodes."""
    return [
        f"{names[one]} and {names[other]} exchange {speed:.2f} GiB/s, {limit:g} are wanted"
        for (one, other), speed in sorted(speeds.items())
        if speed < limit
    ]


def _show(names: Sequence[str], everyone: float, speeds: Mapping[Pair, float]) -> None:
    usual = statistics.median(speeds.values())
    print(f"all-reduce over {len(names)} nodes: {everyone:.2f} GiB/s per node", flush=True)
    for (one, other), speed in sorted(speeds.items(), key=lambda item: item[1]):
        note = "   below half of the median" if speed < usual / 2 else ""
        print(f"  {names[one]} - {names[other]}: {speed:.2f} GiB/s{note}", flush=True)


def _there_and_back(message: torch.Tensor, pair: Pair, ranks: Ranks) -> None:
    first, second = pair
    if ranks.rank == first:
        dist.send(message, second)
        dist.recv(message, second)
    else:
        dist.recv(message, first)
        dist.send(message, first)


def _timed(function: Callable[[], object], device: torch.device) -> float:
    """Seconds of the second call; the first opens connections."""
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    return max(seconds, 1e-9)
