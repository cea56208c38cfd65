"""What fits which card: docs/parallelism.md and docs/models.md have what the planner says."""

import itertools
import re
from collections.abc import Iterator
from functools import cache

import pytest

from parallel.layout import Layout
from parallel.planning.auto import Peaks, choose
from parallel.planning.device_memory import CARDS_GB, GIB, card_bytes
from tests.ranks import ROOT
from training.config import ConfigError, TrainConfig, load

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("hub_of_bases")]

CONFIGS = ROOT / "configs"
ONE_CARD, PRETRAINED = "generator_1b3_24gb", "generator_pretrained"
_BEGIN, _END = "<!-- cards: begin -->", "<!-- cards: end -->"


def _documented(page: str) -> Iterator[tuple[str, int, int, str]]:
    """Configs, GPUs, card in GB, and the whole line, of every row."""
    text = (ROOT / "docs" / page).read_text()
    lines = text.split(_BEGIN)[1].split(_END)[0].strip().splitlines()
    for line in lines[2:]:
        names, gpus, card = (cell.strip() for cell in line.split("|")[1:4])
        yield names, int(gpus), int(card.removesuffix(" GB")), line


ROWS = list(_documented("parallelism.md"))
BASES = list(_documented("models.md"))


@cache
def _planned(names: str, gpus: int) -> tuple[TrainConfig, Layout, Peaks]:
    paths = [CONFIGS / f"{name}.toml" for name in re.findall(r"`([\w/]+)`", names)]
    under = [CONFIGS / f"{PRETRAINED}.toml"] if paths[0].parent.name == "bases" else []
    config = load(TrainConfig, [*under, *paths])
    layout = Layout.from_config(config, gpus)
    return config, layout, Peaks(config, layout)


def row(names: str, gpus: int, card: int) -> str:
    config, layout, peaks = _planned(names, gpus)
    found = choose(config, layout, card_bytes(card), peaks)
    recomputed = "recomputed" if found.recomputes else "kept"
    return (
        f"| {names} | {gpus} | {card} GB | {found.sequences} | {recomputed} | "
        f"{found.peak_bytes / GIB:.1f} GiB |"
    )


@pytest.mark.parametrize(
    ("names", "gpus", "card", "line"), [*ROWS, *BASES], ids=lambda value: str(value)[:24]
)
def test_a_card_of_the_table_takes_its_config(names: str, gpus: int, card: int, line: str) -> None:
    assert line == row(names, gpus, card)


def test_every_config_of_a_size_is_said_to_fit_every_card() -> None:
    sizes = {
        path.stem
        for path in CONFIGS.glob("*.toml")
        if not path.stem.startswith("recipe")
        and 'micro_batch_sequences = "auto"' in path.read_text()
    }
    documented = {(names.strip("`"), card) for names, _, card, _ in ROWS}
    everywhere = set(itertools.product(sizes - {ONE_CARD, PRETRAINED}, CARDS_GB))
    assert documented == everywhere | {(ONE_CARD, 24)}


def test_every_base_is_said_to_fit_a_card_of_24_and_of_80_gb() -> None:
    bases = {path.stem for path in (CONFIGS / "bases").glob("*.toml")} - {"one_small_card"}
    documented = {(re.findall(r"bases/(\w+)", names)[0], card) for names, _, card, _ in BASES}
    assert documented == set(itertools.product(bases, (24, 80)))


def test_one_small_card_needs_the_config_made_for_it() -> None:
    config, layout, peaks = _planned("`generator_1b3`", 1)
    with pytest.raises(ConfigError, match=r"offload_optimizer = true with parallel\.zero_stage"):
        choose(config, layout, card_bytes(24), peaks)
    assert _planned(f"`{ONE_CARD}`", 1)[0].parallel.offload_optimizer
