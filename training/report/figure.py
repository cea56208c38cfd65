"""The plot of accuracy by number of candidates as SVG files of its own, for the README.

    python -m training.report.figure runs/demo docs/images/accuracy

writes `accuracy_light.svg` and `accuracy_dark.svg`: the plot that the report page has of the
first benchmark, in the page's two sets of colours, on a transparent ground.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from training.files import replacing
from training.report.collect import collect
from training.report.plots import accuracy_by_k
from training.report.style import STYLE

THEMES = ("light", "dark")
_COLOUR = re.compile(r"--(\w+):\s*(#[0-9a-f]{6})")
_FONT = "system-ui, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"


def write_figures(run: Path, prefix: Path, *, benchmark: str = "") -> list[Path]:
    """Write `PREFIX_light.svg` and `PREFIX_dark.svg`; returns their paths.

    Args:
        run: The folder of a recipe, or of an evaluation.
        prefix: Where the files go; its folder is created if it does not exist.
        benchmark: Name of the benchmark; empty: the first one.

    Raises:
        FileNotFoundError: the folder holds no results.
        ValueError: it holds no benchmark of that name, or none with candidates.
    """
    found = {entry.name: entry for entry in collect(run).benchmarks}
    name = benchmark or next(iter(found), "")
    drawing = accuracy_by_k(found[name]) if name in found else None
    if drawing is None:
        raise ValueError(
            f"{run} holds no candidates of benchmark {name!r}: it has {', '.join(found) or 'none'}"
        )
    prefix.parent.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for theme in THEMES:
        path = prefix.with_name(f"{prefix.name}_{theme}.svg")
        with replacing(path) as temporary:
            temporary.write_text(_standalone(drawing, _colours(theme)), "utf-8")
        paths.append(path)
    return paths


def _colours(theme: str) -> Mapping[str, str]:
    """The page's colours by the name of their CSS variable."""
    light, dark = STYLE.split("@media (prefers-color-scheme: dark)", 1)
    return dict(_COLOUR.findall(light if theme == "light" else dark.split("* {", 1)[0]))


def _standalone(drawing: str, colours: Mapping[str, str]) -> str:
    """An inline `<svg>` element as a file: its namespace, colours and font are its own."""
    drawing = re.sub(r"var\(--(\w+)\)", lambda name: colours[name[1]], drawing)
    drawing = drawing.replace("'DejaVu Sans'", _FONT)
    return drawing.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1) + "\n"


def main(argv: Sequence[str]) -> int:
    """Write the figures that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a recipe")
    parser.add_argument("prefix", type=Path, metavar="PREFIX", help="path of the files, in part")
    parser.add_argument("--benchmark", default="", help="its name (default: the first)")
    parsed = parser.parse_args(argv)
    for path in write_figures(parsed.run, parsed.prefix, benchmark=parsed.benchmark):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
