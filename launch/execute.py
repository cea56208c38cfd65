"""Execute a file of model-written programs behind walls and compare them with gold.

    python launch/execute.py IN.jsonl[.gz] OUT.jsonl[.gz]
    mpirun -np 33 python launch/execute.py IN OUT              32 workers, on any number of nodes

Each line of IN is an object with `code`, optionally `kind` (func:NAME, var:NAME or
stdout-last; default func:simple_math_problem) and `gold`. OUT has the same objects with
`status`, `value`, `error`, `verdict` (null without gold), `tier` and `seconds` added.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from launch.arguments import EXIT_BAD_INPUT, run
from parallel.workers import assemble
from training.evaluation.execute import IsolationError, Limits
from training.evaluation.execute_file import execute_file


def main(words: Sequence[str]) -> int:
    """Execute IN into OUT; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
    arguments = parser.parse_args(words)
    limits = Limits(timeout_seconds=arguments.timeout_seconds, memory_mib=arguments.memory_mib)
    try:
        with assemble(arguments.num_workers) as crew:
            if crew is not None:
                summary = execute_file(arguments.source, arguments.target, limits=limits, crew=crew)
                print(summary, file=sys.stderr)
    except (IsolationError, OSError) as error:
        print(f"execute.py: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return 0


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
