"""Run the whole recipe: prepare, train, sample, train the verifier, evaluate, report.

    python launch/recipe.py configs/recipe_demo.toml
    python launch/recipe.py configs/recipe_demo.toml run.seed=2 run.folder=runs/demo_2

A second call skips what is finished and goes on with what was cut short.
"""

from collections.abc import Sequence

from launch.arguments import config_of, dry_run, parser, run
from training.config import RecipeConfig
from training.stages.check import check


def main(arguments: Sequence[str]) -> int:
    """Run all stages; the exit code is that of the stage that failed."""
    parsed = parser(__doc__ or "", None).parse_args(arguments)
    config = config_of(parsed, RecipeConfig)
    if parsed.dry_run:
        return dry_run("recipe", config, parsed)
    check("recipe", config, num_ranks=config.num_ranks)
    # Checked first, since the libraries behind this take seconds to import.
    from training.report import build_report
    from training.stages.recipe import StageFailed
    from training.stages.recipe import run as run_recipe

    try:
        run_recipe(config)
    except StageFailed as failure:
        print(f"recipe: {failure}; call it again to go on from there")
        return failure.code if failure.code > 0 else 1
    print(f"report: {build_report(config.run.folder)}")
    return 0


if __name__ == "__main__":
    run(main)
