"""Sample, run and label candidates: what a verifier learns from.

    deepspeed launch/sample.py CONFIG sampling.num_candidates=48
    python launch/sample.py CONFIG
    python launch/sample.py CONFIG --array-task 3/8         one of 8 jobs that share the work

Every rank takes a share of the questions. A second call goes on with what is missing. Ctrl-C,
SIGTERM or SIGUSR1 to any rank ends all between two batches; whole parts are kept.
"""

from collections.abc import Sequence

from launch.arguments import add_array_task, config_of, dry_run, parser, run, stopped
from training.config import SampleConfig


def main(arguments: Sequence[str]) -> int:
    """Sample as the command line says; 0: finished, 130: stopped by a signal, resumable."""
    options = parser(__doc__ or "", None)
    add_array_task(options)
    parsed = options.parse_args(arguments)
    config = config_of(parsed, SampleConfig)
    if parsed.dry_run:
        return dry_run("sample", config, parsed)
    # Checked first, since the libraries below take seconds to import.
    from parallel.ranks import discover
    from training.lifecycle.signals import Stopped
    from training.stages.sample import sample

    ranks = discover()
    try:
        sample(config, ranks, parsed.array_task)
    except Stopped:
        return stopped(ranks)
    finally:
        ranks.disconnect()
    return 0


if __name__ == "__main__":
    run(main)
