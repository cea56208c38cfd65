"""Check a stage before it is submitted or started: its config, its files, its ranks.

    python launch/check.py train configs/generator_1b3.toml --ranks 32
    python launch/check.py recipe configs/recipe_paper.toml --write

Takes seconds and no torch. Prints the run folder; what is wrong goes to standard error, with
exit code 2. `--write` writes a recipe's stage configs and prints `STAGE VERB` lines after the
folder. Job scripts add `--attempt JOB:ATTEMPT`: a job whose attempts make no progress is stopped
here. With `--dry-run` neither is written.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from launch.arguments import config_of, parser, run
from training.config import ConfigError
from training.lifecycle import attempts
from training.stages.recipe import RecipeStage
from training.stages.registry import STAGES
from training.stages.stage import Stage

_VERBS: Mapping[str, type[Stage[Any]]] = {**STAGES, RecipeStage.verb: RecipeStage}


def main(argv: Sequence[str]) -> int:
    """Check as the command line says; 0: nothing is wrong."""
    options = parser(__doc__ or "", None, reads_only=True)
    options.add_argument("--ranks", type=int, default=0, help="processes it will run as")
    options.add_argument("--attempt", metavar="JOB:ATTEMPT", help="record that it begins")
    options.add_argument("--write", action="store_true", help="write a recipe's stage configs")
    arguments = options.parse_intermixed_args(argv)
    verb = arguments.settings.pop(0) if arguments.settings else ""
    if verb not in _VERBS:
        raise ConfigError(f"{verb!r} is no stage: the first word is one of {', '.join(_VERBS)}")
    stage = _VERBS[verb](config_of(arguments, _VERBS[verb].config_class))
    for note in stage.check(num_ranks=arguments.ranks):
        print(note, file=sys.stderr)  # job scripts read the folder from standard output
    print(stage.folder)
    if arguments.write and isinstance(stage, RecipeStage):
        steps = stage.steps() if arguments.dry_run else stage.write_configs()
        for step in steps:
            print(step.name, step.verb)
    if arguments.attempt and not arguments.dry_run:
        job, _, attempt = arguments.attempt.partition(":")
        if not attempt.isdecimal():
            raise ConfigError(f"--attempt {arguments.attempt}: write JOB:ATTEMPT, such as 4711:0")
        attempts.record(
            stage.folder, verb=verb, job=job, attempt=int(attempt), parts=stage.parts_folder
        )
    return 0


if __name__ == "__main__":
    run(main)
