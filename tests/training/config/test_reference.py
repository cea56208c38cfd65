"""docs/configuration.md is what the config classes give."""

from pathlib import Path

from training.config.reference import COMMAND, reference

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_page_of_all_keys_is_current() -> None:
    assert PAGE.read_text("utf-8") == reference(), f"docs/configuration.md is old: {COMMAND}"
