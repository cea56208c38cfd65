"""What fits which card: the tables in the documentation have what the planner says."""

import itertools
import re

import pytest

from parallel.planning.auto import choose
from parallel.planning.device_memory import CARDS_GB, card_bytes
from tests.parallel.planning.cards import (
    BASES_PAGE,
    CONFIGS,
    CONFIGS_PAGE,
    PRETRAINED,
    Row,
    bases,
    documented,
    plans,
)
from training.config import ConfigError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("hub_of_bases")]

ONE_CARD = "generator_1b3_24gb"
ROWS, BASES = list(documented(CONFIGS_PAGE)), list(documented(BASES_PAGE))
OF_EACH_ARCHITECTURE = [
    row
    for row in BASES
    if row.card == 24 and re.search("smollm2_360m|llama32|qwen25_0b5|qwen3_0b6", row.names)
]
"""A plan takes seconds; `python -m tests.parallel.planning.cards` makes them all."""


@pytest.mark.parametrize(
    "row", [*ROWS, *OF_EACH_ARCHITECTURE], ids=lambda row: f"{row.names}-{row.gpus}-{row.card}"
)
def test_a_card_of_the_table_takes_its_config(row: Row) -> None:
    assert row.line == row.planned()


def test_every_config_of_a_size_is_said_to_fit_every_card() -> None:
    sizes = {
        path.stem
        for path in CONFIGS.glob("*.toml")
        if not path.stem.startswith("recipe")
        and 'micro_batch_sequences = "auto"' in path.read_text()
    }
    found = {(row.names.strip("`"), row.card) for row in ROWS}
    everywhere = set(itertools.product(sizes - {ONE_CARD, PRETRAINED}, CARDS_GB))
    assert found == everywhere | {(ONE_CARD, 24)}


def test_every_base_is_said_to_fit_a_card_of_24_and_of_80_gb() -> None:
    assert len(OF_EACH_ARCHITECTURE) == 4
    found = {(re.findall(r"bases/(\w+)", row.names)[0], row.card) for row in BASES}
    assert found == set(itertools.product(bases(), (24, 80)))


def test_one_small_card_needs_the_config_made_for_it() -> None:
    config, layout, peaks = plans("`generator_1b3`", 1)
    with pytest.raises(ConfigError, match=r"offload_optimizer = true with parallel\.zero_stage"):
        choose(config, layout, card_bytes(24), peaks)
    assert plans(f"`{ONE_CARD}`", 1)[0].parallel.offload_optimizer
