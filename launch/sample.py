"""Sample, run and label candidates: what a verifier learns from.

    deepspeed launch/sample.py CONFIG sampling.num_candidates=48
    python launch/sample.py CONFIG
    python launch/sample.py CONFIG --array-task 3/8         one of 8 jobs that share the work

Every rank takes some of the questions. A second call makes what is missing. Ctrl-C, SIGTERM or
SIGUSR1 to any rank ends all between two batches; whole parts are kept.
"""

from collections.abc import Sequence

from launch.arguments import add_array_task, config_of, parser, run, run_stage
from training.config import SampleConfig
from training.stages.sample import SampleStage


def main(argv: Sequence[str]) -> int:
    """Sample as the command line says; 0: finished, 130: stopped by a signal, resumable."""
    options = parser(__doc__ or "", None)
    add_array_task(options)
    arguments = options.parse_args(argv)
    return run_stage(SampleStage(config_of(arguments, SampleConfig)), arguments)


if __name__ == "__main__":
    run(main)
