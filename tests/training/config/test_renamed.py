"""An old key is an error that names the new one."""

from pathlib import Path

import pytest

from tests import small
from training.checkpoint_paths import checkpoint_path
from training.config import ConfigError, RecipeConfig, TrainConfig, load, resolved
from training.files import write_json
from training.lifecycle.run_folder import RUN
from training.stages.same_run import changed_settings

FILE = "configs/generator_demo.toml"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("data.row_tokens=512", "data.row_tokens is now called data.sequence_length"),
        (
            "data.supervise=program",
            "data.supervise is now called data.train_on_prompt "
            "('program' is now false, 'all' is true)",
        ),
        ("training.keep_checkpoints=2", "training.keep_checkpoints is now called checkpoint.keep"),
        (
            "data.sources.0.difficulty.turned=0.1",
            "data.sources.0.difficulty.turned is now called "
            "data.sources.0.difficulty.reversed_comparison_fraction",
        ),
    ],
)
def test_an_old_key_names_the_new_one(override: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(TrainConfig, [FILE], [override])
    assert says in str(error.value)


def test_so_it_is_in_a_recipes_tables() -> None:
    with pytest.raises(ConfigError, match=r"now called generator\.checkpoint\.every_steps"):
        load(
            RecipeConfig,
            ["configs/recipe_demo.toml"],
            ["generator.training.checkpoint_every_steps=3"],
        )


def test_a_run_of_an_earlier_version_is_not_resumed(tmp_path: Path) -> None:
    config = small.config(tmp_path)
    tree = resolved(config)
    tree["data"]["row_tokens"] = tree["data"].pop("sequence_length")
    tree["training"]["checkpoint_every_steps"] = tree.pop("checkpoint")["every_steps"]
    write_json(config.run.folder / RUN, tree)
    checkpoint_path(config.run.folder, 5).mkdir(parents=True)
    with pytest.raises(ConfigError) as error:
        changed_settings(config)
    message = str(error.value)
    assert "an earlier version of this code started, which cannot be resumed" in message
    assert "data.row_tokens is now called data.sequence_length" in message
    assert "training.checkpoint_every_steps is now called checkpoint.every_steps" in message
    assert f"model.initial_weights = {config.run.folder}/checkpoints/step_5" in message
