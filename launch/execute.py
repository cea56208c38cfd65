"""Execute a file of model-written programs in the sandbox and compare them with gold.

    python launch/execute.py IN.jsonl[.gz] OUT.jsonl[.gz]
    mpirun -np 33 python launch/execute.py IN OUT              32 workers, on any number of nodes

Each line of IN is an object with `code`, optionally `kind` (func:NAME, var:NAME or
stdout-last; default func:simple_math_problem) and `gold`. OUT has the same objects with
`status`, `value`, `error`, `verdict` (null without gold), `tier` and `seconds` added. An OUT that
holds anything is refused.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from launch.arguments import plain_parser, run
from parallel.ranks import discover
from parallel.workers.pool import num_cores, worker_pool
from training.execution.executor import Limits
from training.stages.execute import execute_file, num_programs


def main(argv: Sequence[str]) -> int:
    """Execute IN into OUT; the exit code."""
    parser = plain_parser(__doc__ or "")
    parser.add_argument("source", type=Path, metavar="IN.jsonl[.gz]")
    parser.add_argument("target", type=Path, metavar="OUT.jsonl[.gz]")
    parser.add_argument(
        "--timeout-seconds", type=_positive, default=0.5, help="CPU seconds a program may take"
    )
    parser.add_argument(
        "--memory-mib", type=_positive_integer, default=256, help="memory a program may take"
    )
    parser.add_argument(
        "--num-workers",
        type=_positive_integer,
        default=0,
        help="programs run at a time (default: one per core); under MPI one per rank",
    )
    arguments = parser.parse_args(argv)
    limits = Limits(timeout_seconds=arguments.timeout_seconds, memory_mib=arguments.memory_mib)
    if arguments.dry_run:
        if discover(os.environ).is_main:
            print(_plan(arguments))
        return 0
    with worker_pool(arguments.num_workers) as pool:
        if pool is not None:
            summary = execute_file(arguments.source, arguments.target, limits=limits, pool=pool)
            print(summary, file=sys.stderr)
    return 0


def _plan(arguments: argparse.Namespace) -> str:
    count = num_programs(arguments.source, arguments.target)
    # Ranks of an MPI job after the first, or processes of the only one.
    at_a_time = discover(os.environ).world_size - 1 or arguments.num_workers or num_cores()
    return (
        f"would run {count:,} programs of {arguments.source}, {at_a_time} at a time, and write "
        f"{arguments.target}"
    )


def _positive(text: str) -> float:
    number = float(text)
    if not 0.0 < number <= 3600.0:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 3600")
    return number


def _positive_integer(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


if __name__ == "__main__":
    run(main)
