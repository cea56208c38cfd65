"""Check a stage before it is submitted or started: its config, its files, its ranks.

    python launch/check.py train configs/generator_1b3.toml --ranks 32
    python launch/check.py recipe configs/recipe_paper.toml --write

Takes seconds and no torch. Prints the run folder; what is wrong goes to standard error, with
exit code 2. `--write` writes a recipe's stage configs and prints `STAGE VERB` lines after the
folder. Job scripts add `--attempt JOB:ATTEMPT`: a job whose attempts save nothing is stopped here.
With `--dry-run` neither is written.
"""

import sys
from collections.abc import Sequence

from launch.arguments import config_of, parser, run
from training.config import ConfigError, RecipeConfig
from training.lifecycle import attempts
from training.stages.check import (
    KINDS,
    check,
    checked_stages,
    folder_of,
    parts_folder,
    write_stages,
)


def main(words: Sequence[str]) -> int:
    """Check as the command line says; 0: nothing is wrong."""
    options = parser(__doc__ or "", None, reads_only=True)
    options.add_argument("--ranks", type=int, default=0, help="processes it will run as")
    options.add_argument("--attempt", metavar="JOB:ATTEMPT", help="record that this attempt begins")
    options.add_argument("--write", action="store_true", help="write a recipe's stage configs")
    parsed = options.parse_intermixed_args(words)
    verb = parsed.settings.pop(0) if parsed.settings else ""
    if verb not in KINDS:
        raise ConfigError(f"{verb!r} is no stage: the first word is one of {', '.join(KINDS)}")
    config = config_of(parsed, KINDS[verb])
    # Job scripts read the folder from standard output.
    for note in check(verb, config, num_ranks=parsed.ranks):
        print(note, file=sys.stderr)
    folder = folder_of(verb, config)
    if isinstance(config, RecipeConfig):
        planned = checked_stages(config)
        print(folder)
        if parsed.write:
            if not parsed.dry_run:
                write_stages(config, planned)
            for stage in planned:
                print(stage.name, stage.verb)
    else:
        print(folder)
    if parsed.attempt and not parsed.dry_run:
        job, _, attempt = parsed.attempt.partition(":")
        if not attempt.isdecimal():
            raise ConfigError(f"--attempt {parsed.attempt}: write JOB:ATTEMPT, such as 4711:0")
        attempts.start(
            folder, verb=verb, job=job, attempt=int(attempt), parts=parts_folder(verb, config)
        )
    return 0


if __name__ == "__main__":
    run(main)
