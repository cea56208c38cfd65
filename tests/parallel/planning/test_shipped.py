"""What fits which card: docs/parallelism.md has what the planner says of the configs."""

import itertools
from collections.abc import Iterator
from functools import cache

import pytest

from parallel.layout import Layout
from parallel.planning.auto import Peaks, choose
from parallel.planning.device_memory import CARDS_GB, GIB, card_bytes
from tests.ranks import ROOT
from training.config import ConfigError, TrainConfig, load

pytestmark = pytest.mark.slow

ONE_CARD = "generator_1b3_24gb"
_BEGIN, _END = "<!-- cards: begin -->", "<!-- cards: end -->"


def _documented() -> Iterator[tuple[str, int, int, str]]:
    """Config, GPUs, card in GB, and the whole line, of every row."""
    page = (ROOT / "docs" / "parallelism.md").read_text()
    lines = page.split(_BEGIN)[1].split(_END)[0].strip().splitlines()
    for line in lines[2:]:
        name, gpus, card = (cell.strip() for cell in line.split("|")[1:4])
        yield name.strip("`"), int(gpus), int(card.removesuffix(" GB")), line


ROWS = list(_documented())


@cache
def _planned(name: str, gpus: int) -> tuple[TrainConfig, Layout, Peaks]:
    config = load(TrainConfig, [ROOT / "configs" / f"{name}.toml"])
    layout = Layout.from_config(config, gpus)
    return config, layout, Peaks(config, layout)


def row(name: str, gpus: int, card: int) -> str:
    config, layout, peaks = _planned(name, gpus)
    found = choose(config, layout, card_bytes(card), peaks)
    recomputed = "recomputed" if found.recomputes else "kept"
    return (
        f"| `{name}` | {gpus} | {card} GB | {found.sequences} | {recomputed} | "
        f"{found.peak_bytes / GIB:.1f} GiB |"
    )


@pytest.mark.parametrize(("name", "gpus", "card", "line"), ROWS, ids=lambda value: str(value)[:24])
def test_a_card_of_the_table_takes_its_config(name: str, gpus: int, card: int, line: str) -> None:
    assert line == row(name, gpus, card)


def test_every_config_of_a_size_is_said_to_fit_every_card() -> None:
    sizes = {
        path.stem
        for path in (ROOT / "configs").glob("*.toml")
        if not path.stem.startswith("recipe")
        and 'micro_batch_sequences = "auto"' in path.read_text()
    }
    documented = {(name, card) for name, _, card, _ in ROWS}
    everywhere = set(itertools.product(sizes - {ONE_CARD}, CARDS_GB))
    assert documented == everywhere | {(ONE_CARD, 24)}


def test_one_small_card_needs_the_config_made_for_it() -> None:
    config, layout, peaks = _planned("generator_1b3", 1)
    with pytest.raises(ConfigError, match=r"offload_optimizer = true with parallel\.zero_stage"):
        choose(config, layout, card_bytes(24), peaks)
    assert _planned(ONE_CARD, 1)[0].parallel.offload_optimizer
