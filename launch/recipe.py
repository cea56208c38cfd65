"""Run the whole recipe: prepare, train, sample, train the verifier, evaluate, report.

    python launch/recipe.py configs/recipe_demo.toml
    python launch/recipe.py configs/recipe_demo.toml run.seed=2 run.folder=runs/demo_2

A second call skips what is finished and resumes what was interrupted.
"""

from collections.abc import Sequence

from launch.arguments import config_of, parser, run, run_stage
from training.config import RecipeConfig
from training.stages.recipe import RecipeStage, StageFailed


def main(argv: Sequence[str]) -> int:
    """Run all stages; the exit code is that of the stage that failed."""
    arguments = parser(__doc__ or "", None).parse_args(argv)
    recipe = RecipeStage(config_of(arguments, RecipeConfig))
    if not arguments.dry_run:
        recipe.check(num_ranks=recipe.config.num_ranks)
    try:
        return run_stage(recipe, arguments)
    except StageFailed as failure:
        print(f"recipe: {failure}; the same command resumes from there")
        return failure.code if failure.code > 0 else 1


if __name__ == "__main__":
    run(main)
