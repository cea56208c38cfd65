"""Reads and writes what a tokenizer's folder says beside its vocabulary.

    special_tokens = read(folder)
    write(folder, special_tokens)

Special tokens and the chat template are in `tokenizer_config.json` (a template also in
`chat_template.jinja`), further end tokens in the model's `generation_config.json`. A model that
was trained here has `prompt_template.json` as well: the prompts that it was trained on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training import files
from training.errors import DataError

END = "<|endoftext|>"
PAD = "<|verifier_pad|>"
"""Padding in a verifier's folder where its tokenizer has none, or pads with the end token."""
CONFIG, CHAT_TEMPLATE = "tokenizer_config.json", "chat_template.jinja"
GENERATION, PROMPT_TEMPLATE = "generation_config.json", "prompt_template.json"
NAMES = (CONFIG, CHAT_TEMPLATE, GENERATION, PROMPT_TEMPLATE)
"""Names of all files that are read."""

_VARIABLES = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecialTokens:
    """The special tokens of a tokenizer, and the templates that use them."""

    variables: Mapping[str, str] = field(default_factory=lambda: dict.fromkeys(_VARIABLES[:2], END))
    """Texts by their name in `tokenizer_config.json`: `eos_token`, and those that there are of
    `bos_token`, `unk_token` and `pad_token`. By default GPT-2's."""
    end_ids: tuple[int, ...] = ()
    """Ids at which the model's `generation_config.json` stops."""
    chat_template: str = ""
    """In jinja2's language; empty: there is none."""
    prompt_template: str = ""
    """`data.prompt_template` of the training that wrote the folder; empty: not known."""


def read(folder: Path) -> SpecialTokens:
    """Read a tokenizer's folder.

    Raises:
        DataError: a file is damaged.
    """
    config = files.read_json_object(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    texts = {name: _text(config, name, folder) for name in _VARIABLES}
    if not texts["eos_token"]:
        texts["eos_token"] = END
    if not config:
        texts["bos_token"] = END
    return SpecialTokens(
        variables={name: text for name, text in texts.items() if text and text != PAD},
        end_ids=_end_ids(folder),
        chat_template=_chat_template(config, folder),
        prompt_template=_prompt_template(folder),
    )


def write(folder: Path, special_tokens: SpecialTokens) -> list[Path]:
    """Write what `read` reads, in the form that transformers reads as well."""
    variables = special_tokens.variables
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": variables["eos_token"],
        **{name: variables[name] for name in ("bos_token",) if name in variables},
        "pad_token": variables.get("pad_token", variables["eos_token"]),
        "clean_up_tokenization_spaces": False,
    }
    if special_tokens.chat_template:
        config |= {**variables, "chat_template": special_tokens.chat_template}
    content = {CONFIG: config}
    if special_tokens.end_ids:
        content[GENERATION] = {"eos_token_id": list(special_tokens.end_ids)}
    if special_tokens.prompt_template:
        content[PROMPT_TEMPLATE] = {"prompt_template": special_tokens.prompt_template}
    for name, table in content.items():
        files.write_json(folder / name, table)
    return [folder / name for name in content]


def _text(config: Mapping[str, Any], name: str, folder: Path) -> str:
    """A special token's text; empty where there is none."""
    token: Any = config.get(name) or ""
    text = token.get("content") if isinstance(token, dict) else token
    if not isinstance(text, str):
        raise DataError(f"{folder / CONFIG}: {name} is {text!r}, not a text")
    return text


def _chat_template(config: Mapping[str, Any], folder: Path) -> str:
    path = folder / CHAT_TEMPLATE
    if path.is_file():
        try:
            return path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8: {error}") from error
    found: Any = config.get("chat_template") or ""
    if isinstance(found, list):  # several, by their names
        default = [one for one in found if isinstance(one, dict) and one.get("name") == "default"]
        found = default[0].get("template") if default else ""
    if not isinstance(found, str):
        raise DataError(f"{folder / CONFIG}: chat_template is {type(found).__name__}, not a text")
    return found


def _end_ids(folder: Path) -> tuple[int, ...]:
    path = folder / GENERATION
    found: Any = files.read_json_object(path).get("eos_token_id") if path.is_file() else None
    ids = found if isinstance(found, list) else [] if found is None else [found]
    if any(type(number) is not int or number < 0 for number in ids):
        raise DataError(f"{path}: eos_token_id is {found!r}, not an id or a list of ids")
    return tuple(ids)


def _prompt_template(folder: Path) -> str:
    path = folder / PROMPT_TEMPLATE
    found: Any = files.read_json_object(path).get("prompt_template") if path.is_file() else ""
    if not isinstance(found, str):
        raise DataError(f"{path}: prompt_template is {found!r}, not a text")
    return found
