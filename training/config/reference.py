"""The reference of all configuration keys, as Markdown, made from the config classes.

    python -m training.config.reference > docs/configuration.md

One table for each section: key, type, default, bounds, and the docstring of the field.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic.fields import FieldInfo

from training.config.recipe import RecipeConfig
from training.config.values import Section
from training.config.verbs import EvaluateConfig, PrepareConfig, SampleConfig, TrainConfig

COMMAND = "python -m training.config.reference > docs/configuration.md"

_VERBS: Sequence[tuple[str, type[Section]]] = (
    ("train", TrainConfig),
    ("prepare", PrepareConfig),
    ("sample", SampleConfig),
    ("evaluate", EvaluateConfig),
    ("recipe", RecipeConfig),
)
_ROOTS = (TrainConfig, SampleConfig, EvaluateConfig)
_TYPES = {int: "integer", float: "number", bool: "`true` / `false`", str: "string", Path: "path"}
_INTRODUCTION = f"""\
# Configuration

<!-- Generated: `{COMMAND}` -->

A config is one or more TOML (or JSON) files, merged left to right, and then overrides on the
command line:

    python launch/train.py configs/generator_demo.toml training.max_steps=500

An override is `section.key=value`. The value is read as TOML (`true`, `3`, `[1, 2]`, `"text"`),
and as plain text where it is not valid TOML. A number in a key is a position in a list, from 0:
`data.sources.0.num_examples=100`.

An unknown key is an error that names the nearest known key. So is a value of another type or out
of its bounds. No value is changed silently. Paths may begin with `~`; environment variables are
not expanded. The whole config, defaults included, is saved as `config.json` in the run folder and
sent to W&B.

## Which command reads which section
"""
_RECIPE = """\
## A recipe

`generator` and `verifier` are whole training configs: every key of `train` is allowed below them
(`generator.training.max_steps`). In the file, each may start from a training config with
`config = "generator_demo.toml"`, relative to the recipe's file. `run`, `execution` and `tracking`
hold for all stages, unless the table of a training sets its own value.

The recipe sets what links the stages: folders and names of runs, `data.folder`, and what a stage
reads of another. Leave these keys out; any other value is an error.
"""


def reference() -> str:
    """The page docs/configuration.md."""
    verbs = [
        f"| `{verb}` | {', '.join(_link(name) for name in kind.model_fields)} |"
        for verb, kind in _VERBS
        if kind is not RecipeConfig
    ]
    lines = [_INTRODUCTION, "| command | sections |", "|---|---|", *verbs, "", _RECIPE]
    lines += [*_table(RecipeConfig), ""]
    for section in dict.fromkeys(kind for _, kind in _places()):
        places = [place for place, kind in _places() if kind is section]
        lines += [f"## {_heading(section)}", "", _sentence(section.__doc__), ""]
        if len(places) > 1 or "." in places[0]:
            lines += [f"These are the keys of {', '.join(f'`{place}`' for place in places)}.", ""]
        lines += [*_table(section), ""]
    return "\n".join(lines).rstrip() + "\n"


def _places() -> list[tuple[str, type[Section]]]:
    """(where a section stands in a config, the section); `N` is a position in a list."""
    return list(dict.fromkeys(place for root in _ROOTS for place in _below(root, "")))


def _below(kind: type[Section], prefix: str) -> Iterator[tuple[str, type[Section]]]:
    for name, field in kind.model_fields.items():
        if section := _section_of(field):
            place = f"{prefix}{name}{'.N' * _is_list(field.annotation)}"
            yield place, section
            yield from _below(section, f"{place}.")


def _section_of(field: FieldInfo) -> type[Section] | None:
    inner = field.annotation
    if _is_list(inner) or type(None) in get_args(inner):
        inner = get_args(inner)[0]
    return inner if isinstance(inner, type) and issubclass(inner, Section) else None


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is tuple


def _heading(section: type[Section]) -> str:
    return section.__name__.removesuffix("Config").lower()


def _link(name: str) -> str:
    return f"[`{name}`](#{name})"


def _table(section: type[Section]) -> Iterator[str]:
    yield "| key | type | default | bounds | meaning |"
    yield "|---|---|---|---|---|"
    for name, field in section.model_fields.items():
        meaning = _sentence(field.description)
        yield f"| `{name}` | {_type(field)} | {_default(field)} | {_bounds(field)} | {meaning} |"


def _type(field: FieldInfo) -> str:
    annotation = field.annotation
    if section := _section_of(field):
        if section is TrainConfig:
            return "all keys of `train`"
        heading = _heading(section)
        return f"{'list of ' * _is_list(annotation)}[{heading}](#{heading})"
    if _is_list(annotation):
        inner = get_args(annotation)[0]
        return f"list of {_TYPES[_bare(inner)]}s"
    if get_origin(annotation) is Union:
        return " / ".join(_name(choice) for choice in get_args(annotation))
    return _name(annotation)


def _name(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " / ".join(f"`{json.dumps(choice)}`" for choice in get_args(annotation))
    return _TYPES[_bare(annotation)]


def _bare(annotation: Any) -> Any:
    """The type within `Annotated[type, ...]`."""
    return annotation.__origin__ if hasattr(annotation, "__metadata__") else annotation


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "see meaning"
    default: Any = field.default
    if default is None:
        return "none"
    if isinstance(default, Section):
        changed = default.changed(*type(default).model_fields)
        return f"`{changed}`" if changed else "its defaults"
    if isinstance(default, tuple):
        return f"`{json.dumps(default)}`"
    if isinstance(default, float):
        return f"`{default:g}`"
    return f"`{json.dumps(default)}`"


def _bounds(field: FieldInfo) -> str:
    return ", ".join(text for rule in field.metadata if (text := _bound(rule)))


def _bound(rule: object) -> str:
    match rule:
        case Ge(ge=number):
            return f"≥ {_number(number)}"
        case Gt(gt=number):
            return f"> {_number(number)}"
        case Le(le=number):
            return f"≤ {_number(number)}"
        case Lt(lt=number):
            return f"< {_number(number)}"
        case MinLen():
            return "not empty"
        case _:
            pattern = getattr(rule, "pattern", None)
            return f"`{pattern}`" if pattern else ""


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())


if __name__ == "__main__":
    sys.stdout.write(reference())
