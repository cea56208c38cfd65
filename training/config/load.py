"""Config files and `key=value` overrides become one checked, frozen config."""

import difflib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import tomli
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from training.config.from_weights import with_settings_of_weights
from training.config.read import MOST_LEVELS, Tree, levels, merged, read, with_bases
from training.config.recipe import RecipeConfig
from training.config.renamed import renamed
from training.errors import ConfigError

ConfigType = TypeVar("ConfigType", bound=BaseModel)

_MOST_PROBLEMS = 20
_MOST_CHARACTERS = 200
_LARGEST_POSITION_DIGITS = 6


def load(
    kind: type[ConfigType],
    files: Iterable[str | Path],
    overrides: Sequence[str] = (),
    *,
    saved_model: str = "",
) -> ConfigType:
    """Merge files left to right, then overrides (`section.key=value`), and check the whole.

    Where `model.initial_weights` names a saved model, its settings are filled in.

    A value is read as TOML (`true`, `3`, `[1, 2]`, `"text"`), and as plain text where it
    is none. A number in a key is a position: `data.sources.0.num_examples=100`.

    Args:
        kind: The config's class.
        files: Config files.
        overrides: As on the command line.
        saved_model: A folder or `config.json` whose model replaces the files' `model`.

    Raises:
        ConfigError: a file is missing or malformed, a key is unknown, a value is wrong.
        CheckpointError: the initial weights are of no supported model.
    """
    tree: Tree = {}
    for file in files:
        tree = merged(tree, _tables(kind, Path(file)))
    if saved_model:
        head = tree.get("model", {}).get("head", "language_model")
        tree["model"] = {"head": head, "initial_weights": saved_model}
    for override in overrides:
        _apply(tree, override)
    return checked(kind, with_settings_of_weights(tree))


def checked(kind: type[ConfigType], tree: Tree) -> ConfigType:
    """The config that a whole tree describes.

    Raises:
        ConfigError: a key is unknown, a value is wrong; one line for each.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(kind, error)) from None


def resolved(config: BaseModel) -> Tree:
    """The whole config, defaults included, as JSON-ready data."""
    return config.model_dump(mode="json")


def _tables(kind: type[BaseModel], path: Path) -> Tree:
    found = read(path)
    return with_bases(found, path) if kind is RecipeConfig else found


def _apply(tree: Tree, override: str) -> None:
    dotted, equals, text = override.partition("=")
    shown = _short(repr(override))
    if not equals or not dotted.strip():
        raise ConfigError(f"{shown} is not an override: write section.key=value")
    keys = dotted.strip().split(".")
    if not all(keys) or len(keys) > MOST_LEVELS:
        raise ConfigError(f"{shown}: {_short(dotted)!r} is no key: write section.key=value")
    value = _value(text, shown)
    here: Any = tree
    for position, key in enumerate(keys):
        last = position == len(keys) - 1
        if isinstance(here, list):
            place = _position(key)
            if place is None or place >= len(here):
                raise ConfigError(
                    f"{shown}: {'.'.join(keys[:position])} has {len(here)} entries, "
                    f"none at {_short(repr(key))}; the first is at 0"
                )
            if last:
                here[place] = value
            else:
                here = here[place]
        elif isinstance(here, dict):
            if last:
                here[key] = value
            else:
                here = here.setdefault(key, {})
        else:
            raise ConfigError(f"{shown}: {'.'.join(keys[:position])} is a value, not a table")


def _position(key: str) -> int | None:
    """The number of an entry; `²` and `٣` are digits as well, and no positions."""
    is_number = key.isascii() and key.isdigit() and len(key) <= _LARGEST_POSITION_DIGITS
    return int(key) if is_number else None


def _value(text: str, shown: str) -> Any:
    try:
        read_as_toml = tomli.loads(f"value = {text}")
    except RecursionError:
        raise ConfigError(f"{shown}: the value is nested too deep") from None
    except ValueError:
        value: Any = text
    else:
        if len(read_as_toml) > 1:
            raise ConfigError(f"{shown} holds more than one line: write one override for each key")
        value = read_as_toml["value"]
    if levels(value) > MOST_LEVELS:
        raise ConfigError(f"{shown}: the value is nested too deep")
    return value


def _explain(kind: type[BaseModel], error: ValidationError) -> str:
    problems = error.errors()
    # A list whose entries are wrong is also said to be too short.
    above = {problem["loc"][:n] for problem in problems for n in range(len(problem["loc"]))}
    lines = [
        _line(kind, problem)
        for problem in problems
        if not (problem["type"] == "too_short" and problem["loc"] in above)
        # Its default follows from a field that is wrong itself.
        and problem["type"] != "default_factory_not_called"
    ]
    more = len(lines) - _MOST_PROBLEMS
    return "\n".join([*lines[:_MOST_PROBLEMS], *([f"and {more} more"] if more > 0 else [])])


def _line(kind: type[BaseModel], problem: ErrorDetails) -> str:
    place = _short(".".join(_key(part) for part in problem["loc"]))
    message = problem["msg"]
    match problem["type"]:
        case "extra_forbidden":
            if now := renamed(problem["loc"]):
                return f"{place} {now}"
            return f"{place}: unknown key{_nearest(kind, problem['loc'])}"
        case "missing":
            return f"{place}: missing, and it has no default"
        case "value_error":
            message = message.removeprefix("Value error, ")
            return f"{place}: {message}" if place else message
        case "model_type":
            message = "this is a table of settings, not a value"
        case "tuple_type":
            message = "this is a list: write [..., ...]"
        case "string_type" if isinstance(problem["input"], (bool, int, float)):
            message += f": write it in quotes, {place}='\"{_shown(problem['input'])}\"'"
        case _:
            pass
    return f"{place} = {_shown(problem['input'])}: {message}"


def _shown(value: Any) -> str:
    """A value as one would write it in a config, cut short."""
    if isinstance(value, (dict, list, tuple, str, bool)):
        return _short(json.dumps(value, default=str, ensure_ascii=False))
    return _short(str(value))


def _short(text: str) -> str:
    cut = text[:_MOST_CHARACTERS]
    return cut if cut == text else f"{cut}... ({len(text):,} characters)"


def _key(part: int | str) -> str:
    """A part of a key; one that would break the message's line as its escape."""
    return part if isinstance(part, str) and part.isprintable() else repr(part)


def _nearest(kind: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """Name the known key most like the unknown one, in its own table first."""
    table: Any = kind
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        table = _section_of(table.model_fields[part].annotation)
    parents = [str(part) for part in location[:-1]]
    wrong = str(location[-1])[:_MOST_CHARACTERS]
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
