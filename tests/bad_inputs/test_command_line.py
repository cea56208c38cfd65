"""What can be wrong with a command line or with the environment that a launcher leaves."""

import shutil
from pathlib import Path

from tests.bad_inputs.harness import BadInput, Site, over, refused
from tests.ranks import ROOT

DEMO = str(ROOT / "configs" / "recipe_demo.toml")


def a_recipe_of_another_config(site: Site) -> list[str]:
    """The demo's recipe in a folder whose generator was trained with another config."""
    recipe = site.folder / "recipe"
    shutil.copytree(site.trained().folder / "run", recipe / "generator")
    site.write("recipe/config.json", '{"run": {}, "generator": {}, "verifier": {}}')
    return [DEMO, f"run.folder={recipe}"]


CASES = [
    BadInput(
        name="a recipe of another config",
        verb="recipe",
        make=a_recipe_of_another_config,
        says=["holds checkpoints of another config", "model.num_layers was 2, is 4"],
    ),
    BadInput(
        name="a stage to check of another config",
        verb="check",
        make=lambda site: ["train", site.trained().config(optimizer={"beta1": 0.5})],
        says=["holds checkpoints of another config", "optimizer.beta1 was 0.9, is 0.5"],
    ),
    BadInput(
        name="an attempt without its number",
        verb="check",
        make=lambda site: ["train", site.trained().config(), "--attempt", "4711:x"],
        says=["--attempt 4711:x", "JOB:ATTEMPT"],
    ),
    BadInput(
        name="a config file that is not there",
        verb="train",
        make=lambda site: [str(site.folder / "absent.toml")],
        says=["absent.toml"],
    ),
    BadInput(
        name="an unknown option",
        verb="train",
        make=lambda site: [site.config(), "--fast"],
        says=["--fast", "--help"],
    ),
    BadInput(
        name="no config",
        verb="sample",
        make=lambda site: [],
        says=["no config file"],
    ),
    BadInput(
        name="an option without its value",
        verb="prepare",
        make=lambda site: [site.config(), "--show"],
        says=["--show"],
    ),
    BadInput(
        name="ranks for a run that is no dry run",
        verb="train",
        make=lambda site: [site.config(), "--ranks", "4"],
        says=["--ranks", "--dry-run"],
    ),
    BadInput(
        name="fewer examples than one",
        verb="prepare",
        make=lambda site: [site.config(), "--show", "-1"],
        says=["--show -1", "1 example or more"],
    ),
    BadInput(
        name="fewer ranks than one",
        verb="check",
        make=lambda site: ["train", site.trained().config(), "--ranks", "-8"],
        says=["-8 ranks: a run has at least 1"],
    ),
    BadInput(
        name="a report of JSON that is a list",
        verb="report",
        make=lambda site: [str(Path(site.write("run/evaluation.json", "[1]")).parent)],
        says=["evaluation.json holds a list, not a JSON object"],
    ),
    BadInput(
        name="the status of JSON that is a list",
        verb="status",
        make=lambda site: [str(Path(site.write("run/run.json", "[1]")).parent)],
        says=["run.json holds a list, not a JSON object"],
    ),
    BadInput(
        name="a share of nothing",
        verb="sample",
        make=lambda site: [site.config(), "--array-task", "4/3"],
        says=["--array-task", "4/3"],
    ),
    BadInput(
        name="no data prepared",
        verb="train",
        make=lambda site: [site.config()],
        says=["holds no prepared data", "launch/prepare.py"],
    ),
    BadInput(
        name="a checkpoint past the last step",
        verb="train",
        make=lambda site: [site.trained().config(training={"max_steps": 7})],
        says=["step_10", "training.max_steps = 7"],
    ),
]


@over(CASES)
def test_it_is_refused(case: BadInput, num_ranks: int, site: Site) -> None:
    refused(case, num_ranks, site)
