"""The types of config values: strict types, finite numbers, strings of one line, paths.

Everything here holds for every field of every section, whether it came from a TOML or JSON file
or from the command line.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Strict,
    ValidationInfo,
    field_validator,
)

Item = TypeVar("Item")
Setting = TypeVar("Setting")

MOST_STEPS = 10**9
"""Bound of everything that is counted in optimizer steps."""
LARGEST_COUNT = 10**7
"""Bound of sequences, candidates and questions that are handled at a time."""
MOST_EXAMPLES = 10**12
"""Bound of examples and questions of a whole data set."""
MOST_IDS = 2**24
"""Bound of the ids of a tokenizer, and of the rows of an embedding."""
MOST_TOKENS = 2**20
"""Bound of the tokens of a document, a sequence or an answer."""
MOST_WORKERS = 65536
"""Bound of processes, ranks and degrees of a layout."""
LARGEST_SEED = 2**63 - 1
SMALLEST_FLOAT32, LARGEST_FLOAT32 = 2.0**-126, float((2 - 2**-23) * 2.0**127)
"""Bounds of the numbers that training and sampling compute with: float32 has no others."""
SMALLEST_TEMPERATURE, LARGEST_TEMPERATURE = 1e-6, 1e3

_MOST_NAME_BYTES, _MOST_PATH_BYTES = 255, 4096
_VARIABLE = re.compile(r"\$(\w+|\{\w+\})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")

HeadKind = Literal["language_model", "verifier"]
"""What a model has on its body: next-token logits, or one score per position."""
ArchitectureName = Literal["phi", "llama", "qwen2", "qwen3"]
"""As transformers calls them (`model_type`)."""
Precision = Literal["fp32", "bf16", "fp16"]
"""In what numbers a model is trained or exported."""

FUNCTION_PROMPT, CHAT_PROMPT, QUESTION = "function", "chat", "{question}"
"""Values of a prompt template, and what a text in their place has to contain."""

Auto = Literal["auto"]
AUTO: Auto = "auto"
"""Of a setting that is chosen for the device when a run starts, and printed."""

Many = Annotated[tuple[Item, ...], Strict(False)]
"""A list in a file, a tuple here; its entries are as strict as any other field."""


class Section(BaseModel):
    """A frozen table: unknown keys are errors, and no value is turned into another type.

    `true` is no number, `"3"` and `3.5` are no integers, infinity and NaN are no values. An
    integer is accepted for a float.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    many_lines: ClassVar[tuple[str, ...]] = ()
    """Names of fields that may hold line breaks."""

    @field_validator("*", mode="after")
    @classmethod
    def _texts_are_plain(cls, value: Any, info: ValidationInfo) -> Any:
        may_break = info.field_name in cls.many_lines
        for text in _texts(value):
            if _CONTROL.search(text.replace("\n", "") if may_break else text):
                raise ValueError(f"{text[:100]!r} holds a line break or another control character")
            if _SURROGATE.search(text):
                raise ValueError(f"{text[:100]!r} is not valid text: write it in UTF-8")
        return value

    def changed(self, *names: str) -> str:
        """Those of these settings that are not at their defaults, as `name = value, ...`."""
        fields = type(self).model_fields
        return ", ".join(
            f"{name} = {getattr(self, name)!r}"
            for name in names
            if getattr(self, name) != fields[name].default
        )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, (str, Path)):
        yield str(value)
    elif isinstance(value, tuple):
        for entry in value:  # pyright: ignore[reportUnknownVariableType]
            yield from _texts(entry)


def expanded(path: str) -> str:
    """A path with the home folder in place of a leading `~`.

    Raises:
        ValueError: it is blank, names an unknown user's home or an environment variable, or is
            longer than file systems allow.
    """
    if not path.strip():
        raise ValueError("it is empty: name a file or folder ('.' is the current folder)")
    longest = max(len(os.fsencode(part)) for part in path.split("/"))
    if longest > _MOST_NAME_BYTES or len(os.fsencode(path)) > _MOST_PATH_BYTES:
        raise ValueError(
            f"a path of {len(os.fsencode(path))} bytes whose longest name has {longest}: file "
            f"systems take {_MOST_PATH_BYTES} and {_MOST_NAME_BYTES}"
        )
    if variable := _VARIABLE.search(path):
        raise ValueError(
            f"{path!r} holds {variable.group()}, and configs do not expand environment variables: "
            "write the path itself, or set it on the command line, where the shell expands it"
        )
    found = os.path.expanduser(path)
    # './~name' as well: as a Path it is '~name', which is somebody's home when it is read again.
    if (first := str(Path(found)).partition("/")[0]).startswith("~"):
        raise ValueError(
            f"{path!r}: there is no home folder {first} on this machine: write the whole path, "
            "from '/'"
        )
    return found


def _folder(value: Any) -> Any:
    return Path(expanded(value)) if isinstance(value, str) else value


def _temperature(value: float) -> float:
    if value and not SMALLEST_TEMPERATURE <= value <= LARGEST_TEMPERATURE:
        raise ValueError(
            f"a temperature of {value}: set one between {SMALLEST_TEMPERATURE:g} and "
            f"{LARGEST_TEMPERATURE:g}, or 0 for the most likely token"
        )
    return value


def _prompt_template(value: str) -> str:
    if value not in (FUNCTION_PROMPT, CHAT_PROMPT) and QUESTION not in value:
        raise ValueError(
            f"{value!r} is neither {FUNCTION_PROMPT!r} nor {CHAT_PROMPT!r}, and as a text it does "
            f"not contain {QUESTION}: put {QUESTION} where the question belongs"
        )
    return value


def _sampling_temperature(value: float) -> float:
    if value == 0:
        raise ValueError(
            "a temperature of 0: an evaluation draws the greedy program beside the sampled ones in "
            "any case; set temperatures above 0"
        )
    return _temperature(value)


def _auto_or_count(value: Any) -> Any:
    if value == AUTO or (type(value) is int and 1 <= value <= LARGEST_COUNT):
        return value
    raise ValueError(f"{value!r} is neither a whole number from 1 to {LARGEST_COUNT:,} nor 'auto'")


def _auto_or_switch(value: Any) -> Any:
    if value == AUTO or type(value) is bool:
        return value
    raise ValueError(f"{value!r} is none of true, false and 'auto'")


def chosen(value: Setting | Auto) -> Setting:
    """A setting after `auto` has been resolved (parallel/planning/auto.py)."""
    assert value != AUTO, "a setting is read before its `auto` is resolved"
    return value


AutoCount = Annotated[int | Auto, BeforeValidator(_auto_or_count)]
"""A count, or `auto`."""
AutoSwitch = Annotated[bool | Auto, BeforeValidator(_auto_or_switch)]
"""`true`, `false` or `auto`."""
Folder = Annotated[Path, Strict(False), BeforeValidator(_folder)]
"""A folder on this machine."""
Source = Annotated[str, AfterValidator(expanded)]
"""A file, a folder, the id of something on the hub, or a word that stands for one; never empty."""
OptionalSource = Annotated[str, AfterValidator(lambda value: expanded(value) if value else value)]
"""The same, or empty."""
PromptTemplate = Annotated[str, AfterValidator(_prompt_template)]
"""`function`, `chat`, or a text with `{question}`: how a question becomes a prompt."""
OptionalPromptTemplate = Annotated[
    str, AfterValidator(lambda value: _prompt_template(value) if value else value)
]
"""The same, or empty."""
Temperature = Annotated[float, AfterValidator(_temperature)]
"""Of sampling; 0: the most likely token."""
PositiveTemperature = Annotated[float, AfterValidator(_sampling_temperature)]
"""Of what is compared with greedy answers."""
