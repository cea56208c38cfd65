"""An old key is an error that names the new one."""

import pytest

from training.config import ConfigError, RecipeConfig, TrainConfig, load

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
