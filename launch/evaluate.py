"""Evaluate a saved generator, with or without its verifier, on benchmarks.

    deepspeed launch/evaluate.py CONFIG evaluation.generator=FOLDER evaluation.verifier=FOLDER
    python launch/evaluate.py CONFIG evaluation.verifier=

Every rank takes some of the questions. A second call makes what is missing. Ctrl-C, SIGTERM or
SIGUSR1 to any rank ends all ranks between two batches; whole parts are kept.
Ends with a table; all numbers, with intervals, are in `evaluation.json` in the run folder.
"""

from collections.abc import Sequence

from launch.arguments import config_of, parser, run, run_stage
from training.config import EvaluateConfig
from training.stages.evaluate import EvaluateStage


def main(argv: Sequence[str]) -> int:
    """Evaluate as the command line says; 0: finished, 130: stopped by a signal, resumable."""
    arguments = parser(__doc__ or "", None).parse_args(argv)
    return run_stage(EvaluateStage(config_of(arguments, EvaluateConfig)), arguments)


if __name__ == "__main__":
    run(main)
