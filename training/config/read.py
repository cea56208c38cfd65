"""Config files as plain tables: TOML or JSON, checked for all that a parser does not check.

    tree = read(Path("configs/recipe_demo.toml"))

In a recipe `generator` and `verifier` may start from a training config of their own, named by
`config = FILE`; `with_bases` puts these in. A file that describes a run on its own names its own
folders and inputs: of these, the ones that the recipe sets (training/config/links.py) are left
out.
"""

import difflib
import json
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import tomli

from training.config import links
from training.config.values import expanded
from training.errors import ConfigError

Tree = dict[str, Any]

MOST_LEVELS = 32
"""Tables and lists within each other; the deepest of our configs has six."""
_MOST_BYTES = 4 * 2**20


def read(path: Path) -> Tree:
    """The tables of a config file.

    Raises:
        ConfigError: there is no such file, or it is none that can be read as a config.
    """
    text = _text(path)
    try:
        if path.suffix == ".json":
            tree: Any = json.loads(text, object_pairs_hook=_without_repetition)
        else:
            tree = tomli.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"config file {path} cannot be read: {_reason(error)}") from None
    if not isinstance(tree, dict):
        raise ConfigError(
            f"config file {path} holds a JSON {type(tree).__name__}: a config is an object of "
            "sections, as config.json in a run folder is"
        )
    if levels(tree) > MOST_LEVELS:
        raise ConfigError(
            f"config file {path} nests tables or lists {levels(tree)} deep: no setting is deeper "
            f"than {MOST_LEVELS}"
        )
    return cast(Tree, tree)


def with_bases(tree: Tree, path: Path) -> Tree:
    """A recipe's tables of `path`, with the training configs that they start from put in.

    Raises:
        ConfigError: such a file cannot be read, or is no training config.
    """
    done = dict(tree)
    for name in ("generator", "verifier"):
        table = tree.get(name)
        if not isinstance(table, dict) or "config" not in table:
            continue
        table = cast(Tree, table)
        base = table["config"]
        if not isinstance(base, str) or not base.strip():
            raise ConfigError(f"{path}: {name}.config = {base!r}: name a training config's file")
        try:
            base_path = expanded(base)
        except ValueError as error:
            raise ConfigError(f"{path}: {name}.config: {error}") from None
        found = read(path.parent / base_path)
        if nested := [key for key in ("config", "generator", "verifier") if key in found]:
            raise ConfigError(
                f"{path}: {name}.config = {base!r} holds {nested[0]!r}, so it is a recipe: name "
                "a training config's file"
            )
        own = {key: value for key, value in table.items() if key != "config"}
        done[name] = merged(links.without(name, found), own)
    return done


def merged(base: Tree, over: Tree) -> Tree:
    """Both tables in one; where both have a value, that of `over`."""
    both = dict(base)
    for key, value in over.items():
        old = both.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            both[key] = merged(cast(Tree, old), cast(Tree, value))
        else:
            both[key] = value
    return both


def levels(value: Any) -> int:
    """How many tables and lists lie within each other."""
    deepest, left = 0, [(value, 1)]
    while left:
        here, depth = left.pop()
        if isinstance(here, (dict, list)):
            deepest = max(deepest, depth)
            inner = cast(Any, here.values() if isinstance(here, dict) else here)
            left += [(entry, depth + 1) for entry in inner]
    return deepest


def _text(path: Path) -> str:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ConfigError(f"config file {path} is a folder{_in_folder(path)}")
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"config file {path} is not a regular file")
        if status.st_size > _MOST_BYTES:
            raise ConfigError(
                f"config file {path} has {status.st_size:,} bytes, and a config never more than "
                f"{_MOST_BYTES:,}: is it data?"
            )
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, _siblings(path), n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise ConfigError(f"config file {path} does not exist{hint}") from None
    except OSError as error:
        raise ConfigError(f"config file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"config file {path} is not UTF-8 text (byte {error.start}): a config is TOML or JSON"
        ) from None
    except ValueError as error:  # a name with a NUL in it; ours pass as they are
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"config file {str(path)!r} cannot be opened: {error}") from None


def _in_folder(path: Path) -> str:
    names = [entry.name for entry in sorted(path.glob("*.toml"))]
    return f": name one of its files, such as {path / names[0]}" if names else ""


def _siblings(path: Path) -> Sequence[str]:
    return [entry.name for entry in path.parent.glob("*.toml")] if path.parent.is_dir() else []


def _without_repetition(pairs: list[tuple[str, Any]]) -> Tree:
    """A JSON object; of a key that stands twice, json would silently take the last."""
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return table


def _reason(error: Exception) -> str:
    return "it is nested too deep" if isinstance(error, RecursionError) else str(error)
