"""Encodes text as token ids and decodes it: loads a tokenizer, or trains one.

    tokenizer = Tokenizer.load(Path("tokenizer"))             # a folder that `save` wrote
    tokenizer = Tokenizer.from_source("microsoft/phi-1_5")    # a folder of any form, or a hub id
    tokenizer = Tokenizer.train(texts, vocab_size=1024)

A prompt and its program are always tokenised separately: the sampler encodes the prompt before
the program exists, so it could never sample a token that spans the two. Tokenizers of
SentencePiece's kind put a space before a text; a program continues its prompt, so it has none.
"""

import copy
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Regex, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from typing_extensions import Self

from training import files, hub, verification
from training.config.values import FUNCTION_PROMPT, HeadKind
from training.data import quick_bpe, special_tokens
from training.data.fast_tokenizers import (
    add_tokens,
    byte_level,
    first_ids,
    with_special,
    without_first_space,
    without_special,
)
from training.data.prompts import PromptTemplate
from training.data.quick_bpe import QuickBpe
from training.data.special_tokens import END, PAD, SpecialTokens
from training.errors import DataError, UserError

FOLDER = "tokenizer"
"""The folder of the tokenizer within a data, checkpoint or model folder, if not at the top."""

_NAMES = (
    "tokenizer.json",
    *special_tokens.NAMES,
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
)
_BPE_FILES = (
    ("vocab.json", "merges.txt", "added_tokens.json"),
    # GPT-2's own names, with the whitespace tokens that CodeGen adds to them.
    ("encoder.json", "vocab.bpe", "codegen_added_tokens.json"),
)

_PROGRAM = "    a = 2.5\n    if a > 1:\n        a = a * 12  # $\n    return a"
"""Has what programs consist of: line breaks, indentation, signs and numbers."""

_FILES = tuple(dict.fromkeys((*_NAMES, *(name for names in _BPE_FILES for name in names))))
"""Names of all files that are read from a tokenizer's folder."""


class Tokenizer:
    """Turns prompts and programs into ids, and ids into programs."""

    def __init__(self, fast: FastTokenizer, special: SpecialTokens | None = None) -> None:
        """Wrap a `tokenizers` tokenizer.

        Args:
            fast: The tokenizer.
            special: Its special tokens and templates; None: GPT-2's end token.

        Raises:
            DataError: it has no such tokens.
        """
        special = special or SpecialTokens()
        end = special.variables["eos_token"]
        end_token = fast.token_to_id(end)
        if end_token is None:
            raise DataError(f"the tokenizer has no token {end!r} to end a program with")
        self._fast, self._end, self._special = fast, end, special
        # The text of the end token within a question must not become the end token.
        self._fast.encode_special_tokens = True
        self.end_token: int = end_token
        """The id that follows every program."""
        self.vocab_size: int = max(fast.get_vocab(with_added_tokens=True).values()) + 1
        """One more than the largest id; a model's embedding has at least as many rows."""
        for number in special.end_ids:
            if number >= self.vocab_size:
                raise DataError(
                    f"generation_config.json stops at the id {number}, and the tokenizer has "
                    f"{self.vocab_size} ids: the files do not belong together"
                )
        self.end_tokens: tuple[int, ...] = tuple(dict.fromkeys((end_token, *special.end_ids)))
        """The ids at which sampling stops: `end_token`, and others that the model may write."""
        self._first = first_ids(fast, special.variables.get("bos_token", ""))
        self.template = self._template(special.prompt_template or FUNCTION_PROMPT)
        """How a question becomes a prompt."""
        self.knows_template: bool = bool(special.prompt_template)
        """Whether that was recorded or set, or is the default."""

    @classmethod
    def from_source(cls, source: str) -> Self:
        """Load a tokenizer from a local folder or a hub id.

        Args:
            source: `data.tokenizer.source`, unless that is `train`.

        Raises:
            DataError: there is none at that path, or the hub cannot be reached.
        """
        folder = hub.local_path(source, "data.tokenizer.source")
        if folder is None:
            folder = hub.files_of(source, _NAMES, "data.tokenizer.source")
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load a tokenizer from a folder, or from the `tokenizer/` in it.

        Known forms: `tokenizer.json`; `vocab.json` + `merges.txt` (+ `added_tokens.json`);
        GPT-2's `encoder.json` + `vocab.bpe` (+ `codegen_added_tokens.json`).

        Raises:
            DataError: the folder holds none of them, or they do not fit together, are damaged,
                or differ from the manifest that lists them.
        """
        if (folder / FOLDER).is_dir():
            folder = folder / FOLDER
        verification.verify(folder, _FILES)
        try:
            return cls._load(folder)
        except UserError:
            raise
        except Exception as error:  # `tokenizers` raises no narrower class
            raise DataError(f"{folder} holds a damaged tokenizer: {error}") from error

    @classmethod
    def _load(cls, folder: Path) -> Self:
        if (folder / "tokenizer.json").is_file():
            fast = FastTokenizer.from_file(str(folder / "tokenizer.json"))
            fast.no_padding()
            fast.no_truncation()
            fast = without_special(fast, PAD)  # which `save` adds for a verifier
            return cls(fast, special_tokens.read(folder))
        for vocabulary, merges, added in _BPE_FILES:
            if (folder / vocabulary).is_file() and (folder / merges).is_file():
                special = special_tokens.read(folder)
                fast = byte_level(BPE.from_file(str(folder / vocabulary), str(folder / merges)))
                add_tokens(fast, folder / added, special.variables["eos_token"])
                return cls(fast, special)
        raise DataError(
            f"{folder} holds no tokenizer: expected tokenizer.json, vocab.json with merges.txt, "
            "or encoder.json with vocab.bpe"
        )

    @classmethod
    def train(cls, texts: Iterable[str], *, vocab_size: int) -> Self:
        """Train a byte-level BPE; the same texts give the same tokenizer.

        Every digit is a token, and so is the space before a number, so that `18` consists of the
        same two tokens wherever it occurs. Runs of white space may become one token, so that a
        line break and the indentation after it are one.
        """
        fast = byte_level(BPE())
        fast.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(r"\d| (?=\d)"), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
        trainer = BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        fast.train_from_iterator(texts, trainer)
        return cls(fast)

    def pad_token(self, head: HeadKind) -> int | None:
        """The id of padding in a verifier's folder; None in a generator's.

        transformers' sequence classifiers score a sequence at its last token that is not padding,
        so that it is never the id of the end token.
        """
        if head == "language_model":
            return None
        fast, text = self._padding
        return fast.token_to_id(text)

    @cached_property
    def _padding(self) -> tuple[FastTokenizer, str]:
        """A tokenizer with a padding token other than the end token, and that token's text."""
        own = self._special.variables.get("pad_token", "")
        if self._fast.token_to_id(own) not in (None, self.end_token):
            return self._fast, own
        return with_special(self._fast, PAD), PAD

    def encode(self, text: str) -> list[int]:
        """The ids of a text; no token is added."""
        return self._fast.encode(text, add_special_tokens=False).ids

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of many texts, encoded in one call."""
        if self._quick and all(len(text) <= quick_bpe.MAX_CHARACTERS for text in texts):
            return [self._quick.encode(text) for text in texts]
        encodings = self._fast.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    @cached_property
    def _quick(self) -> QuickBpe | None:
        """Made when many texts are encoded, as it takes a second."""
        return QuickBpe.of(self._fast)

    @cached_property
    def _continuing(self) -> FastTokenizer:
        """For texts that continue another one: puts no space before them, and removes none."""
        return without_first_space(self._fast)

    @cached_property
    def _reading_special(self) -> FastTokenizer:
        """Makes special tokens of their texts."""
        return FastTokenizer.from_str(self._fast.to_str())

    def with_template(self, setting: str) -> "Tokenizer":
        """The same tokenizer with prompts as `data.prompt_template` says.

        Raises:
            ConfigError, DataError: it is `chat`, and there is no chat template, or an unusable one.
        """
        other = copy.copy(self)
        other._special = replace(self._special, prompt_template=setting)
        other.template, other.knows_template = self._template(setting), True
        return other

    def without_template(self) -> "Tokenizer":
        """The same tokenizer, of which `save` records no prompt template."""
        other = copy.copy(self)
        other._special = replace(self._special, prompt_template="")
        other.knows_template = False
        return other

    def _template(self, setting: str) -> PromptTemplate:
        added = self._fast.get_added_tokens_decoder().values()
        texts = [token.content for token in added if token.special]
        return PromptTemplate(setting, self._special, texts=texts)

    def prompt_ids(self, question: str) -> list[int]:
        """The ids of a question's prompt."""
        text = self.template.text(question)
        if not self.template.writes_special_tokens:
            return [*self._first, *self.encode(text)]
        ids = self._reading_special.encode(text, add_special_tokens=False).ids
        return ids if self.template.writes_first_token else [*self._first, *ids]

    def prompts_ids(self, questions: Sequence[str]) -> list[list[int]]:
        """The ids of the prompts of many questions, encoded in one call."""
        texts = [self.template.text(question) for question in questions]
        if not self.template.writes_special_tokens:
            found = self.encode_all(texts)
        else:
            encodings = self._reading_special.encode_batch_fast(texts, add_special_tokens=False)
            found = [encoding.ids for encoding in encodings]
        first = [] if self.template.writes_first_token else self._first
        return [[*first, *ids] for ids in found] if first else found

    def program_ids(self, program: str) -> list[int]:
        """The ids of a program, with the end token."""
        return [*self._continuing.encode(program, add_special_tokens=False).ids, self.end_token]

    def programs_ids(self, programs: Sequence[str]) -> list[list[int]]:
        """The ids of many programs, each with the end token, encoded in one call."""
        if self._continuing is self._fast:
            found = self.encode_all(programs)
        else:
            encodings = self._continuing.encode_batch_fast(list(programs), add_special_tokens=False)
            found = [encoding.ids for encoding in encodings]
        return [[*ids, self.end_token] for ids in found]

    def program(self, ids: Sequence[int]) -> str:
        """The text of a program's ids; the end token and ids without a token are left out."""
        return self._continuing.decode(list(ids), skip_special_tokens=True)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these ids; special tokens and ids without a token are left out."""
        return self._fast.decode(list(ids), skip_special_tokens=True)

    def refuse_lossy(self) -> None:
        """Refuse a tokenizer that does not keep a program as it is.

        Raises:
            DataError: programs do not decode to themselves.
        """
        found = self.program(self.program_ids(_PROGRAM))
        if found != _PROGRAM:
            raise DataError(
                "the tokenizer does not keep the line breaks, spaces or signs of a program: of "
                f"{_PROGRAM!r} it makes {found!r}; use another tokenizer"
            )

    @property
    def fingerprint(self) -> str:
        """A digest that is equal for tokenizers that give the same ids, however they were saved.

        transformers, for example, adds a post-processor to every tokenizer that it saves; it only
        adds special tokens, which are never requested here.
        """
        content = json.loads(self._fast.to_str())
        for name in ("version", "post_processor", "decoder"):
            content.pop(name, None)
        vocabulary = self._fast.get_vocab(with_added_tokens=True)
        if isinstance(content["model"]["vocab"], list):  # Unigram's, with scores
            content["ids"] = vocabulary
        else:
            content["model"]["vocab"] = vocabulary
        around = [self._first] if self._first else []
        around += ["no space before programs"] if self._continuing is not self._fast else []
        return files.sha256_json([_decisive(content), self._end, *around])

    def identity(self) -> dict[str, Any]:
        """What a manifest records of the tokenizer."""
        return {
            "fingerprint": self.fingerprint,
            "vocab_size": self.vocab_size,
            "end_token": self._end,
        }

    def difference(self, other: "Tokenizer") -> str:
        """How another tokenizer's ids differ, as the end of a sentence; empty if they do not."""
        if self.fingerprint == other.fingerprint:
            return ""
        if self._end != other._end:
            return f"the end token is {self._end!r} in one and {other._end!r} in the other"
        if self._first != other._first:
            return f"texts begin with the ids {self._first} in one and {other._first} in the other"
        if self.vocab_size != other.vocab_size:
            return f"one has {self.vocab_size} ids and the other {other.vocab_size}"
        texts = (
            (self._fast.id_to_token(i), other._fast.id_to_token(i), i)
            for i in range(self.vocab_size)
        )
        for mine, others, number in texts:
            if mine != others:
                return f"id {number} is {mine!r} in one and {others!r} in the other"
        return "they have the same tokens, but split texts by different rules"

    def save(self, folder: Path, *, head: HeadKind = "language_model") -> list[Path]:
        """Write Hugging Face files, which `load` and transformers' AutoTokenizer read.

        Args:
            folder: Made where it is not there.
            head: Of the model whose tokenizer it is: a verifier's pads with `pad_token`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "tokenizer.json"
        fast, variables = self._fast, dict(self._special.variables)
        if head == "verifier":
            fast, variables["pad_token"] = self._padding
        with files.replacing(path) as temporary:
            fast.save(str(temporary))
        more = self._special.end_ids if len(self.end_tokens) > 1 else ()
        special = replace(self._special, variables=variables, end_ids=more)
        return [path, *special_tokens.write(folder, special)]


def is_in(folder: Path) -> bool:
    """Whether a folder holds a tokenizer in a form that `Tokenizer.load` knows."""
    names = ("tokenizer.json", *(vocabulary for vocabulary, _, _ in _BPE_FILES))
    return any((each / name).is_file() for each in (folder, folder / FOLDER) for name in names)


def _decisive(content: Any) -> Any:
    """A tokenizer's JSON without what changes no id: offsets, unused flags, empty for absent."""
    if isinstance(content, dict):
        unused = ("trim_offsets", "normalized")
        return {key: _decisive(value) for key, value in content.items() if key not in unused}
    if isinstance(content, list):
        return [_decisive(value) for value in content]
    return None if content == "" else content
