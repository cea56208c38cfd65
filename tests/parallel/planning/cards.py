"""The tables of what fits which card, in docs/parallelism.md and docs/models.md.

python -m tests.parallel.planning.cards     # plans every row anew and writes both; minutes
"""

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest.mock import patch

from parallel.layout import Layout
from parallel.planning.auto import Peaks, choose
from parallel.planning.device_memory import GIB, card_bytes
from tests.bases import lay_out_bases
from tests.ranks import ROOT
from training.config import ConfigError, TrainConfig, load

CONFIGS, DOCS = ROOT / "configs", ROOT / "docs"
CONFIGS_PAGE, BASES_PAGE = DOCS / "parallelism.md", DOCS / "models.md"
PRETRAINED, SMALL_CARD = "generator_pretrained", "one_small_card"
_BEGIN, _END = "<!-- cards: begin -->\n", "<!-- cards: end -->"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a line of a table is about."""

    names: str
    """The configs as the first cell has them."""
    gpus: int
    card: int
    """In GB."""
    line: str = ""
    """As documented."""

    def planned(self) -> str:
        """The line as the planner has it.

        Raises:
            ConfigError: nothing fits the card.
        """
        config, layout, peaks = plans(self.names, self.gpus)
        found = choose(config, layout, card_bytes(self.card), peaks)
        recomputed = "recomputed" if found.recomputes else "kept"
        return (
            f"| {self.names} | {self.gpus} | {self.card} GB | {found.sequences} | {recomputed} | "
            f"{found.peak_bytes / GIB:.1f} GiB |"
        )


def documented(page: Path) -> Iterator[Row]:
    """The rows of a page's table."""
    for line in _parts(page)[1].strip().splitlines()[2:]:
        names, gpus, card = (cell.strip() for cell in line.split("|")[1:4])
        yield Row(names=names, gpus=int(gpus), card=int(card.removesuffix(" GB")), line=line)


@cache
def plans(names: str, gpus: int) -> tuple[TrainConfig, Layout, Peaks]:
    """The config that a first cell names, and its plans."""
    paths = [CONFIGS / f"{name}.toml" for name in re.findall(r"`([\w/]+)`", names)]
    under = [CONFIGS / f"{PRETRAINED}.toml"] if paths[0].parent.name == "bases" else []
    config = load(TrainConfig, [*under, *paths])
    layout = Layout.from_config(config, gpus)
    return config, layout, Peaks(config, layout)


def bases() -> list[str]:
    """The names in configs/bases/."""
    names = {path.stem for path in (CONFIGS / "bases").glob("*.toml")}
    return sorted(names - {SMALL_CARD})


def _parts(page: Path) -> tuple[str, str, str]:
    before, _, rest = page.read_text("utf-8").partition(_BEGIN)
    table, _, after = rest.partition(_END)
    return before, table, after


def _write(page: Path, lines: list[str]) -> None:
    before, table, after = _parts(page)
    table = "\n".join(["", *table.strip().splitlines()[:2], *lines, "", ""])
    page.write_text(before + _BEGIN + table + _END + after, "utf-8")


def _base_line(name: str, card: int) -> str:
    alone = f"`bases/{name}`"
    try:
        return Row(names=alone, gpus=1, card=card).planned()
    except ConfigError:
        with_less = f"{alone}, `bases/{SMALL_CARD}`"
        return Row(names=with_less, gpus=1, card=card).planned()


def main() -> None:
    """Write both tables."""
    _write(CONFIGS_PAGE, [row.planned() for row in documented(CONFIGS_PAGE)])
    with tempfile.TemporaryDirectory() as home:
        lay_out_bases(Path(home))
        constants = "huggingface_hub.constants"
        with (
            patch(f"{constants}.HF_HUB_CACHE", f"{home}/hub"),
            patch(f"{constants}.HF_HUB_OFFLINE", True),
        ):
            _write(BASES_PAGE, [_base_line(name, card) for name in bases() for card in (24, 80)])


if __name__ == "__main__":
    main()
