"""Evaluate a saved generator, with or without its verifier, on benchmarks.

    deepspeed launch/evaluate.py CONFIG evaluation.generator=FOLDER evaluation.verifier=FOLDER
    python launch/evaluate.py CONFIG evaluation.verifier=

Every rank takes a share of the questions. A second call goes on with what is missing. Ctrl-C,
SIGTERM or SIGUSR1 to any rank ends all between two batches; whole parts are kept.
Ends with a table; all numbers, with intervals, are in `evaluation.json` in the run folder.
"""

from collections.abc import Sequence

from launch.arguments import config_of, dry_run, parser, run, stopped
from training.config import EvaluateConfig


def main(arguments: Sequence[str]) -> int:
    """Evaluate as the command line says; 0: finished, 130: stopped by a signal, resumable."""
    parsed = parser(__doc__ or "", None).parse_args(arguments)
    config = config_of(parsed, EvaluateConfig)
    if parsed.dry_run:
        return dry_run("evaluate", config, parsed)
    # Checked first, since the libraries below take seconds to import.
    from rich.console import Console

    from parallel.ranks import discover
    from training.lifecycle.signals import Stopped
    from training.report import summary_table
    from training.stages.evaluate import evaluate

    ranks = discover()
    try:
        evaluation = evaluate(config, ranks)
    except Stopped:
        return stopped(ranks)
    finally:
        ranks.disconnect()
    if ranks.is_main:
        Console().print(summary_table(evaluation))
    return 0


if __name__ == "__main__":
    run(main)
