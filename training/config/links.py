"""What links the stages of a recipe: the settings that the recipe itself makes.

One rule for all settings that a recipe's `generator`, `verifier` and `evaluation` tables share
with the recipe:

- A link (the folders and names of the stages, and what one stage reads of another) is what the
  recipe makes it. Left out, it is filled in; a table that sets it to anything else is refused.
  A training config that a table starts from (`config = FILE`) describes a run on its own, so
  its links are not taken.
- `run`, `execution` and `tracking` of the recipe hold for every stage; what a training's table
  says of them itself holds there instead.

`RecipeConfig` applies both while it is loaded, so a loaded recipe, and its `config.json`, hold
the settings that run.
"""

import os
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

from training.checkpoint_paths import checkpoint_path

Tree = dict[str, Any]

SOURCES = "data.sources.path"
"""The path of every source in `data.sources`, as one link."""
LINKS: Mapping[str, tuple[str, ...]] = {
    "generator": ("run.folder", "run.name", "data.folder"),
    "verifier": (
        "run.folder",
        "run.name",
        "data.folder",
        SOURCES,
        "data.tokenizer.source",
        "model.initial_weights",
        "evaluation.generator",
    ),
    "evaluation": ("generator", "verifier"),
}
"""By table of a recipe: its links."""


def wanted(table: str, *, folder: Path, name: str, steps: Mapping[str, int]) -> dict[str, str]:
    """The links of a table and what a recipe makes them.

    Args:
        table: A key of `LINKS`.
        folder: The recipe's.
        name: The recipe's.
        steps: The last step of the trainings that the table reads from: `generator`, `verifier`.
    """
    last = {
        training: str(checkpoint_path(folder / training, step)) for training, step in steps.items()
    }
    if table == "evaluation":
        return {"generator": last["generator"], "verifier": last["verifier"]}
    made = {
        "run.folder": str(folder / table),
        "run.name": f"{name}-{table}",
        "data.folder": str(folder / f"data_{table}"),
    }
    if table == "verifier":
        made |= {
            SOURCES: str(folder / "candidates"),
            "data.tokenizer.source": str(Path(last["generator"]) / "huggingface"),
            "model.initial_weights": last["generator"],
            "evaluation.generator": last["generator"],
        }
    return made


def without(table: str, base: Tree) -> Tree:
    """A training config's tables without the links of a recipe's table."""
    kept = deepcopy(base)
    for link in LINKS[table]:
        for place, key in _places(kept, link, make=False):
            place.pop(key, None)
    return kept


def filled(tree: Tree, links: Mapping[str, str]) -> Tree:
    """A table with the links that it leaves out; what it says itself stays as it is."""
    done = deepcopy(tree)
    for link, value in links.items():
        # A list of sources that is missing altogether is the config's mistake.
        for place, key in _places(done, link, make=link != SOURCES):
            if place.get(key, "") == "":  # an empty one is one left out
                place[key] = value
    return done


def differing(tree: Tree, links: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """(link, what a whole table says, what the recipe makes it) where the two differ."""
    for link, value in links.items():
        for place, key in _places(tree, link, make=False):
            if os.path.normpath(place[key]) != os.path.normpath(value):
                yield link, place[key], value


def _places(tree: Tree, link: str, *, make: bool) -> Iterator[tuple[Tree, str]]:
    """The tables that hold the last key of a link, and that key. Odd shapes are passed over."""
    *tables, key = link.split(".")
    here: list[Any] = [tree]
    for name in tables:
        inner: list[Any] = []
        for table in here:
            if not isinstance(table, dict):
                continue
            found = cast(Tree, table).setdefault(name, {}) if make else table.get(name)
            inner += cast("list[Any]", found) if isinstance(found, list) else [found]
        here = inner
    for table in here:
        if isinstance(table, dict):
            yield cast(Tree, table), key
