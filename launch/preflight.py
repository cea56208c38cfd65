"""Test the nodes of a job before its ranks start; an unfit node is named.

    python launch/preflight.py                                  this machine
    srun --ntasks-per-node=1 python launch/preflight.py --folder runs/mine --gpus 8

One process a node. Every node must see the run folder, have the same code and packages, the
space and the GPUs, a right clock, and links to all others. docs/cluster.md says what to do
about each message. The job scripts call it; exit code 1: a node is not fit.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from launch.arguments import plain_parser, run
from training.config import ConfigError
from training.stages.readable import folder_problems


def main(argv: Sequence[str]) -> int:
    """Examine; 0: all nodes are fit."""
    options = plain_parser(__doc__ or "")
    options.add_argument("--folder", type=Path, default=Path(), help="the run folder")
    options.add_argument("--gpus", type=int, help="GPUs a node must show (default: what it has)")
    options.add_argument("--min-free-gib", type=float, default=1.0, help="below the folder")
    options.add_argument(
        "--min-gib-per-second", type=float, default=0.0, help="of the slowest pair of nodes"
    )
    options.add_argument("--mib-per-message", type=int, default=64, help="to measure links with")
    parsed = options.parse_args(argv)

    import torch

    from parallel.nodes.preflight import Demands, examine, node_name
    from parallel.ranks import discover

    ranks = discover()
    num_gpus = torch.cuda.device_count() if parsed.gpus is None else parsed.gpus
    demands = Demands(
        folder=parsed.folder,
        num_gpus=num_gpus,
        min_free_gib=parsed.min_free_gib,
        min_gib_per_second=parsed.min_gib_per_second,
        mib_per_message=parsed.mib_per_message,
    )
    if parsed.dry_run:
        if problems := [*folder_problems(parsed.folder)]:
            raise ConfigError("\n".join(problems))
        if ranks.is_main:
            print(
                f"would write a file into {parsed.folder} and examine {ranks.world_size} "
                f"node{'s' * (ranks.world_size > 1)}: {num_gpus} GPUs, {parsed.min_free_gib:g} GiB "
                f"free, {parsed.min_gib_per_second:g} GiB/s between any two"
            )
        return 0
    try:
        problems = examine(demands, ranks)
    except RuntimeError as error:
        problems = [f"{node_name()} broke off: {str(error).splitlines()[0]}"]
    for problem in problems:
        print(f"preflight: {problem}", file=sys.stderr, flush=True)
    if ranks.is_main and not problems:
        nodes = "node is" if ranks.world_size == 1 else f"{ranks.world_size} nodes are"
        print(f"preflight: {nodes} fit, {num_gpus} GPUs each", flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    run(main)
