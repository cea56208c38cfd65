"""How much memory a rank's device has: its GPU's, or its part of what a machine has available.

device_memory(ranks.device("auto"), ranks)      # bytes
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from parallel.ranks import Ranks

if TYPE_CHECKING:
    import torch

GIB = 2**30
CARDS_GB = (24, 80, 141)
"""Memory of usual GPUs as their names have it, in 10^9 bytes: an RTX 4090, an H100, an H200."""

_RANKS_ON_NODE = ("LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE")
"""Variables of launchers."""
_LIMITS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Limit, use, and the file cache within it that can be dropped; of cgroup versions 2 and 1."""


def card_bytes(gigabytes: float) -> int:
    """Bytes of a GPU by its name. Drivers report up to 7 % more, and no less but for a few."""
    return int(gigabytes * 10**9)


def device_memory(device: "torch.device", ranks: Ranks) -> int:
    """Bytes that this rank can use: all of its GPU, or its part of the available main memory.

    The ranks of a machine share its memory equally. Where a launcher does not say how many they
    are, all ranks of the run are taken to be on this machine.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_properties(device).total_memory
    return available_memory() // ranks_on_node(ranks.world_size, os.environ)


def ranks_on_node(world_size: int, environment: Mapping[str, str]) -> int:
    """The number of the run's ranks on this machine, at most."""
    counts = (environment.get(name, "") for name in _RANKS_ON_NODE)
    return next((int(count) for count in counts if count.isdigit() and int(count)), world_size)


def available_memory(root: Path = Path("/")) -> int:
    """Bytes of main memory that new work can take, within the limits of this process's cgroups.

    Args:
        root: Where `proc` and `sys` are.
    """
    return max(0, min(_of_machine(root), *_of_cgroups(root)))


def _of_machine(root: Path) -> int:
    with suppress(OSError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _of_cgroups(root: Path) -> Iterator[int]:
    """What each limited cgroup of this process, and each above it, has left."""
    yield _of_machine(root)
    for folder in _cgroups(root):
        for limit, use, cache in _LIMITS:
            with suppress(OSError, ValueError):  # none of this version, or "max": no limit
                left = int((folder / limit).read_text()) - int((folder / use).read_text())
                yield left + _statistic(folder / "memory.stat", cache)


def _cgroups(root: Path) -> Iterator[Path]:
    above = root / "sys/fs/cgroup"
    paths = set[Path]()
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            base = above if not controllers else above / "memory"
            if controllers in ("", "memory"):
                own = base / path.lstrip("/")
                paths |= {own, *(each for each in own.parents if each.is_relative_to(base))}
    # In a container the path may be the host's, and the limit is at the top.
    yield from sorted(paths | {above, above / "memory"})


def _statistic(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
