"""Makes tokenizers of the `tokenizers` library, and finds out what they put around a text."""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, decoders, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import BPE

from training import files
from training.errors import DataError

_SEQUENCES = ("normalizers", "pretokenizers", "decoders")
"""Where the steps of a `Sequence` are."""


def byte_level(model: BPE) -> FastTokenizer:
    """A tokenizer of GPT-2's kind around its vocabulary and merges."""
    fast = FastTokenizer(model)
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    fast.decoder = decoders.ByteLevel()
    return fast


def first_ids(fast: FastTokenizer, first_token: str) -> list[int]:
    """The ids that the tokenizer's post-processor puts before a text: of `first_token`, or none."""
    first = fast.token_to_id(first_token)
    plain = fast.encode("a", add_special_tokens=False).ids
    if first is None or plain[:1] == [first]:
        return []
    return [first] if fast.encode("a").ids[:1] == [first] else []


def without_first_space(fast: FastTokenizer) -> FastTokenizer:
    """A tokenizer that puts no space before a text; itself where it puts none anyway."""
    content = json.loads(fast.to_str())
    changed = {**content, "decoder": _spaceless(content["decoder"], is_decoder=True)}
    for name in ("normalizer", "pre_tokenizer"):
        changed[name] = _spaceless(content[name])
    if changed == content:
        return fast
    made = FastTokenizer.from_str(json.dumps(changed))
    made.encode_special_tokens = True
    return made


def _spaceless(step: Any, *, is_decoder: bool = False) -> Any:
    """A step of a tokenizer's JSON, without the space it puts before or takes from a text."""
    kind = step["type"] if step else None
    if kind == "Prepend":
        return None
    if kind == "Metaspace":
        return {**step, "prepend_scheme": "never"}
    if kind == "ByteLevel" and not is_decoder:  # of a decoder, the setting changes nothing
        return {**step, "add_prefix_space": False}
    if kind == "Strip" and is_decoder:
        return {**step, "start": 0}
    if kind == "Sequence":
        name = next(name for name in _SEQUENCES if name in step)
        inner = [_spaceless(each, is_decoder=is_decoder) for each in step[name]]
        return {**step, name: [each for each in inner if each]}
    return step


def with_special(fast: FastTokenizer, text: str) -> FastTokenizer:
    """A tokenizer with one special token more, after all others."""
    made = FastTokenizer.from_str(fast.to_str())
    made.add_special_tokens([AddedToken(text, normalized=False, special=True)])
    return made


def without_special(fast: FastTokenizer, text: str) -> FastTokenizer:
    """A tokenizer without that special token; itself where it has none."""
    content = json.loads(fast.to_str())
    kept = [token for token in content["added_tokens"] if token["content"] != text]
    if len(kept) == len(content["added_tokens"]):
        return fast
    return FastTokenizer.from_str(json.dumps({**content, "added_tokens": kept}))


def add_tokens(fast: FastTokenizer, path: Path, end: str) -> None:
    """Add the tokens of an added-tokens file, and check that they get the ids it lists."""
    content: Any = files.read_json_object(path) if path.is_file() else {}
    if "added_tokens" in content:
        ids = {str(entry["content"]): int(entry["id"]) for entry in content["added_tokens"]}
    else:
        ids = {str(text): int(number) for text, number in content.items()}
    for text in sorted(ids, key=lambda text: ids[text]):
        fast.add_tokens([AddedToken(text, normalized=False, special=text == end)])
        if fast.token_to_id(text) != ids[text]:
            raise DataError(
                f"{path} gives {text!r} the id {ids[text]}, but after the vocabulary beside "
                f"it comes {fast.token_to_id(text)}: the files do not belong together"
            )
    fast.add_special_tokens([AddedToken(end, normalized=False, special=True)])
