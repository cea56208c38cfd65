"""TOML files and `key=value` overrides become one checked, frozen config."""

import difflib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import tomli
from pydantic import BaseModel, ValidationError

Tree = dict[str, Any]
ConfigType = TypeVar("ConfigType", bound=BaseModel)


class ConfigError(ValueError):
    """A setting that a person has to change; its message stands alone."""


def load(
    kind: type[ConfigType], files: Iterable[str | Path], overrides: Sequence[str] = ()
) -> ConfigType:
    """Merge files left to right, then overrides (`section.key=value`), and check the whole.

    A value is read as TOML (`true`, `3`, `[1, 2]`, `"text"`), and as plain text where it
    is none. A number in a key is a position: `data.sources.0.num_examples=100`.

    Raises:
        ConfigError: a file is missing or malformed, a key is unknown, a value is wrong.
    """
    tree: Tree = {}
    for file in files:
        tree = _merged(tree, _read(Path(file)))
    for override in overrides:
        _apply(tree, override)
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(kind, error)) from None


def resolved(config: BaseModel) -> Tree:
    """The whole config, defaults included, as JSON-ready data."""
    return config.model_dump(mode="json")


def _read(path: Path) -> Tree:
    if not path.is_file():
        near = difflib.get_close_matches(path.name, _siblings(path), n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise ConfigError(f"config file {path} does not exist{hint}")
    try:
        text = path.read_text(encoding="utf-8")
        tree = json.loads(text) if path.suffix == ".json" else tomli.loads(text)
    except ValueError as error:
        raise ConfigError(f"config file {path} cannot be read: {error}") from None
    # A recipe's tables may start from a file of their own.
    for name in ("generator", "verifier"):
        table = tree.get(name)
        if isinstance(table, dict) and "config" in table:
            base = _read(path.parent / str(table.pop("config")))
            tree[name] = _merged(base, table)
    return tree


def _siblings(path: Path) -> list[str]:
    return [entry.name for entry in path.parent.glob("*.toml")] if path.parent.is_dir() else []


def _merged(base: Tree, over: Tree) -> Tree:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = _merged(cast(Tree, old), cast(Tree, value))
        else:
            merged[key] = value
    return merged


def _apply(tree: Tree, override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted.strip():
        raise ConfigError(f"{override!r} is not an override: write section.key=value")
    keys = dotted.strip().split(".")
    here: Any = tree
    for position, key in enumerate(keys):
        last = position == len(keys) - 1
        if isinstance(here, list):
            if not key.isdigit() or int(key) >= len(here):
                raise ConfigError(
                    f"{override!r}: {'.'.join(keys[:position])} has {len(here)} entries, "
                    f"none at {key!r}"
                )
            if last:
                here[int(key)] = _value(text)
            else:
                here = here[int(key)]
        elif isinstance(here, dict):
            if last:
                here[key] = _value(text)
            else:
                here = here.setdefault(key, {})
        else:
            raise ConfigError(f"{override!r}: {'.'.join(keys[:position])} is a value, not a table")


def _value(text: str) -> Any:
    try:
        return tomli.loads(f"value = {text}")["value"]
    except ValueError:
        return text


def _explain(kind: type[BaseModel], error: ValidationError) -> str:
    lines: list[str] = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"{place}: unknown key{_nearest(kind, problem['loc'])}")
        elif problem["type"] == "missing":
            lines.append(f"{place}: missing, and it has no default")
        elif problem["type"] == "value_error":
            message = str(problem["msg"]).removeprefix("Value error, ")
            lines.append(f"{place}: {message}" if place else message)
        else:
            lines.append(f"{place} = {problem['input']!r}: {problem['msg']}")
    return "\n".join(lines)


def _nearest(kind: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """Name the known key most like the unknown one, in its own table first."""
    table: Any = kind
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        table = _section_of(table.model_fields[part].annotation)
    wrong, parents = str(location[-1]), [str(part) for part in location[:-1]]
    near = difflib.get_close_matches(wrong, table.model_fields, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {'.'.join([*parents, near[0]])}?"
    near = difflib.get_close_matches(
        ".".join([*parents, wrong]), list(_all_keys(kind)), n=1, cutoff=0.5
    )
    if near:
        return f"; did you mean {near[0]}?"
    return f"; {'.'.join(parents) or 'the file'} knows {', '.join(table.model_fields)}"


def _section_of(annotation: Any) -> Any:
    """The section class within `Section`, `Section | None` or `tuple[Section, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _section_of(arg))), None)


def _all_keys(kind: type[BaseModel], prefix: str = "") -> Iterable[str]:
    for name, field in kind.model_fields.items():
        yield prefix + name
        section = _section_of(field.annotation)
        if section is not None:
            yield from _all_keys(section, f"{prefix}{name}.")
