"""Encodes text with tiktoken, for tokenizers of GPT-2's kind: the same ids in a third of the time.

    quick = QuickBpe.of(fast)      # None: not this kind of tokenizer, or the ids differ
    quick.encode(text)

GPT-2's tokenizer and CodeGen's, which adds runs of white space as tokens, are of this kind. Whether
both libraries agree is not assumed, but tried on sample texts for every tokenizer that is loaded.
"""

import json
import random
import re
from collections.abc import Iterator
from typing import Any

import tiktoken
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import pre_tokenizers
from typing_extensions import Self

MAX_CHARACTERS = 20_000
"""Longer texts are left to `tokenizers`: tiktoken's regular expressions may exceed their stack."""

_PLAIN = (r"'(?:[sdmt]|ll|ve|re)", r" ?\p{L}+", r" ?\p{N}+", r" ?[^\s\p{L}\p{N}]+")
_SPACE = r"SPACE++$|SPACE+(?!\S)|SPACE"
"""GPT-2's rule for splitting text, in two parts, as tiktoken matches a group of its own that looks
neither ahead nor back at twice the speed. SPACE is white space that begins no added token."""

_SAMPLE = (
    'def simple_math_problem() -> int:\n    """\n    Ann has 12 apples: $1,200.50?\n    """\n',
    "    x = 3\n\tif x > 2:  # two\n\t\ty = x ** 2\n\n        z = 0.25\n    return result",
    "We'll they've I'm he'd you're it's 'Tis rock'n'roll DON'T can't",
    "\u00e9t\u00e9 \u6f22\u5b57 \U0001f34e\u200d\U0001f9d1 \u00bd \u0967",
    "\u0968 \u00a0\u2028x \u2003 y",
    "<|endoftext|> a<|endoftext|>b",
    "1234567890 3.14 1e-9 x1y2 100% #1 a_b __c__ C++ //= ** !=",
)
_NUM_RANDOM_TEXTS = 300
_RANDOM_PARTS = (
    *" \t\n\r\x0b\x0c\u00a0\u2003",
    *("  ", "   ", "    ", "\t\t", "\n\n", " " * 31, " " * 33, "\t" * 10),
    *("a", "the", "Apples", "x1", "7", "2024", "'s", "'", "'ll", ".", "==", "#", "_", "(", '"""'),
    *("\u00e9", "\u6f22\u5b57", "\U0001f34e", "\u00bd", "<|endoftext|>"),
)


class QuickBpe:
    """A byte-pair encoder that gives the ids of one tokenizer."""

    def __init__(self, ranks: dict[bytes, int], split: str) -> None:
        """Take the tokens with their ids, and the rule for splitting text."""
        self._encoding = tiktoken.Encoding(
            "quick", pat_str=split, mergeable_ranks=ranks, special_tokens={}
        )

    @classmethod
    def of(cls, fast: FastTokenizer) -> Self | None:
        """The encoder that gives the same ids as `fast`; None if there is none."""
        content: dict[str, Any] = json.loads(fast.to_str())
        ranks, runs = _ranks(content), _runs(content)
        if ranks is None or runs is None or not _splits_as_gpt2(content):
            return None
        for token, token_id in _added(content):
            ranks[token.encode()] = token_id
        # An added token begins wherever its first two characters are.
        begins = "|".join(re.escape(2 * character) for character, _ in runs)
        space = rf"(?:(?!{begins})\s)" if runs else r"\s"
        longest = [f"{re.escape(character)}{{2,{longest}}}" for character, longest in runs]
        plain = "|".join([*longest, *_PLAIN])
        made = cls(ranks, f"(?:{plain})|{_SPACE.replace('SPACE', space)}")
        texts = list(_sample())
        expected = fast.encode_batch_fast(texts, add_special_tokens=False)
        is_equal = all(
            made.encode(text) == encoding.ids
            for text, encoding in zip(texts, expected, strict=True)
        )
        return made if is_equal else None

    def encode(self, text: str) -> list[int]:
        """The ids of a text of at most `MAX_CHARACTERS`; no token is added."""
        return self._encoding.encode_ordinary(text)


def _sample() -> Iterator[str]:
    """Texts on which both must agree: some that are known to be hard, and random ones."""
    yield from _SAMPLE
    draw = random.Random(0)
    for _ in range(_NUM_RANDOM_TEXTS):
        yield "".join(draw.choices(_RANDOM_PARTS, k=draw.randrange(1, 30)))


def _splits_as_gpt2(content: dict[str, Any]) -> bool:
    splits: Any = content["pre_tokenizer"]
    return (
        content["normalizer"] is None
        and isinstance(splits, dict)
        and (splits.get("type"), splits.get("use_regex")) == ("ByteLevel", True)
        and not splits.get("add_prefix_space")
    )


def _ranks(content: dict[str, Any]) -> dict[bytes, int] | None:
    """The tokens of the vocabulary as bytes; None if their ids are not the order of the merges."""
    model = content["model"]
    options = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    if model.get("type") != "BPE" or any(model.get(name) for name in options):
        return None
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bytes_of = _bytes_of_characters()
    vocabulary: dict[str, int] = model["vocab"]
    ranks = {token: number for token, number in vocabulary.items() if token in alphabet}
    num_bytes = len(ranks)
    if num_bytes != len(bytes_of) or max(ranks.values()) != num_bytes - 1:
        return None
    for index, merge in enumerate(model["merges"]):
        merged = "".join(merge.split(" ") if isinstance(merge, str) else merge)
        if vocabulary.get(merged) != num_bytes + index:
            return None
        ranks[merged] = num_bytes + index
    return {
        bytes(bytes_of[character] for character in token): number for token, number in ranks.items()
    }


def _bytes_of_characters() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for (GPT-2's table)."""
    shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in set(shown)]
    return {chr(byte): byte for byte in shown} | {
        chr(256 + index): byte for index, byte in enumerate(hidden)
    }


def _added(content: dict[str, Any]) -> list[tuple[str, int]]:
    return [
        (token["content"], token["id"]) for token in content["added_tokens"] if not token["special"]
    ]


def _runs(content: dict[str, Any]) -> list[tuple[str, int]] | None:
    """The characters of which runs of two and more are tokens, each with its longest run.

    None if other tokens were added, or some with rules of their own.
    """
    rules = ("single_word", "lstrip", "rstrip", "normalized")
    tokens = [token for token in content["added_tokens"] if not token["special"]]
    if any(token[rule] for token in tokens for rule in rules):
        return None
    lengths: dict[str, list[int]] = {}
    for text, _ in _added(content):
        if len(text) < 2 or text != len(text) * text[0] or text[0] not in " \t":
            return None
        lengths.setdefault(text[0], []).append(len(text))
    if any(sorted(found) != list(range(2, len(found) + 2)) for found in lengths.values()):
        return None
    return [(character, max(found)) for character, found in lengths.items()]
