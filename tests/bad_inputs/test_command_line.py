"""What can be wrong with a command line or with the environment that a launcher leaves."""

from tests.bad_inputs.harness import BadInput, Launcher, Site, over

CASES = [
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
        name="a share of nothing",
        verb="sample",
        make=lambda site: [site.config(), "--share", "4/3"],
        says=["--share", "4/3"],
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
def test_it_is_refused(case: BadInput, num_ranks: int, launcher: Launcher, site: Site) -> None:
    launcher.refuses(case, num_ranks, site)
