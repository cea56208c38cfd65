"""The README tells the truth about what is there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ROOMS = ("launch", "training", "parallel", "checkpoints")


def test_the_file_map_names_every_file_by_its_own_first_line() -> None:
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            if path.name == "__init__.py":
                continue
            name = str(path.relative_to(ROOT))
            docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
            assert f"- `{name}` {docstring.splitlines()[0]}" in README, name


def test_the_file_map_names_nothing_that_is_gone() -> None:
    for name in re.findall(r"^- `([\w/]+\.py)`", README, re.MULTILINE):
        assert (ROOT / name).is_file(), name


def test_every_config_named_is_there_and_every_one_there_is_named() -> None:
    for name in re.findall(r"configs/(\w+\.toml)", README):
        assert (ROOT / "configs" / name).is_file(), name
    for path in (ROOT / "configs").glob("*.toml"):
        stem = path.stem
        assert stem in README or f"_{stem.rpartition('_')[2]}`" in README, stem


def test_every_make_target_named_is_there() -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for name in re.findall(r"(?:`|^    )make ([a-z-]+)", README, re.MULTILINE):
        assert name in targets, name
