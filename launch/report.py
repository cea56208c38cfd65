"""Build the report of a recipe's folder, or say which of its jobs stopped the recipe.

    python launch/report.py runs/paper_1b3

`launch/recipe.py` builds the report itself; this is the last job of slurm/recipe.sh.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from launch.arguments import plain_parser, run
from training.stages import jobs


def main(argv: Sequence[str]) -> int:
    """Report on a folder; 0: the report is there, 1: a stage failed."""
    options = plain_parser(__doc__ or "")
    options.add_argument("folder", type=Path, metavar="RECIPE_FOLDER")
    parsed = options.parse_args(argv)
    folder: Path = parsed.folder
    if failed := jobs.failed_stage(folder):
        stage, job, state = failed
        print(
            f"recipe {folder}: stage {stage} (job {job}) ended as {state}; the stages after it "
            f"were not started. Its output is in slurm/logs/*-{job}.log; fix the cause and call "
            "slurm/recipe.sh again with the same arguments: it resumes from there",
            file=sys.stderr,
        )
        return 1
    # Checked first, since drawing takes seconds to import.
    from training.report import build_report
    from training.report.build import refuse_others
    from training.report.collect import collect

    if parsed.dry_run:
        refuse_others(folder)
        run_of = collect(folder)
        names = ", ".join(entry.name for entry in run_of.benchmarks) or "no benchmark"
        print(
            f"would write {folder / 'report.html'} and report.json: {len(run_of.manifests)} "
            f"finished stages, {names}"
        )
        return 0
    print(f"report: {build_report(folder)}")
    return 0


if __name__ == "__main__":
    run(main)
