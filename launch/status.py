"""Report where runs stand: step, rate, time left, last evaluation, restarts, logs, W&B.

    python launch/status.py runs/paper_1b3
    python launch/status.py runs/generator_1b3 runs/verifier_1b3

Reads files in the run folders only, so it works on a login node, during a run and after
its end.
"""

from collections.abc import Sequence
from pathlib import Path

from launch.arguments import plain_parser, run
from training.stages.status import describe


def main(argv: Sequence[str]) -> int:
    """Describe every folder; 0: all of them are runs."""
    options = plain_parser(__doc__ or "", reads_only=True)
    options.add_argument("folders", type=Path, nargs="+", metavar="RUN")
    for folder in options.parse_args(argv).folders:
        print(f"== {folder}")
        for line in describe(folder):
            print(line)
    return 0


if __name__ == "__main__":
    run(main)
