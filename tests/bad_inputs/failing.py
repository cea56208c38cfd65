"""A verb whose rank fails as its command line says: `RANK KIND`, while the others wait for it."""

import errno
from collections.abc import Sequence

import torch

from launch.arguments import run
from parallel.ranks import discover
from training.config import ConfigError
from training.lifecycle.signals import StopSignal


def main(argv: Sequence[str]) -> int:
    rank, kind = int(argv[0]), argv[1]
    ranks = discover()
    ranks.connect(torch.device("cpu"))
    try:
        ranks.barrier()
        if ranks.rank == rank:
            if kind == "bug":
                raise ZeroDivisionError("a bug")
            if kind == "disk":
                raise OSError(errno.ENOSPC, "No space left on device", "weights.bin")
            raise ConfigError("the setting is wrong")
        if kind == "own work":
            with StopSignal(ranks) as stop:
                while True:
                    stop.check()
        ranks.barrier()
    finally:
        ranks.disconnect()
    return 0


if __name__ == "__main__":
    run(main)
