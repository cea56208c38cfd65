"""Encodes text as token ids and decodes it: loads a tokenizer, or trains one.

    tokenizer = Tokenizer.load(Path("tokenizer"))             # a folder that `save` wrote
    tokenizer = Tokenizer.from_source("microsoft/phi-1_5")    # a folder of any form, or a hub id
    tokenizer = Tokenizer.train(texts, vocab_size=1024)

A prompt and its program are always tokenised separately: the sampler encodes the prompt before
the program exists, so it could never sample a token that spans the two.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, decoders, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from typing_extensions import Self

from training import files, hub, verification
from training.data import quick_bpe
from training.data.quick_bpe import QuickBpe
from training.errors import DataError, UserError
from training.execution import programs

END = "<|endoftext|>"
FOLDER = "tokenizer"
"""The folder of the tokenizer within a data, checkpoint or model folder, if not at the top."""

_NAMES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
)
_BPE_FILES = (
    ("vocab.json", "merges.txt", "added_tokens.json"),
    # GPT-2's own names, with the whitespace tokens that CodeGen adds to them.
    ("encoder.json", "vocab.bpe", "codegen_added_tokens.json"),
)

_FILES = tuple(dict.fromkeys((*_NAMES, *(name for names in _BPE_FILES for name in names))))
"""Names of all files that are read from a tokenizer's folder."""


class Tokenizer:
    """A byte-level tokenizer: any text can be encoded, and decodes to itself."""

    def __init__(self, fast: FastTokenizer, end: str = END) -> None:
        """Wrap a `tokenizers` tokenizer.

        Args:
            fast: The tokenizer.
            end: The text of its end token.

        Raises:
            DataError: it has no such token.
        """
        end_token = fast.token_to_id(end)
        if end_token is None:
            raise DataError(f"the tokenizer has no token {end!r} to end a program with")
        self._fast, self._end = fast, end
        # The text of the end token within a question must not become the end token.
        self._fast.encode_special_tokens = True
        self.end_token: int = end_token
        """The id that follows every program, at which sampling stops."""
        self.vocab_size: int = max(fast.get_vocab(with_added_tokens=True).values()) + 1
        """One more than the largest id; a model's embedding has at least as many rows."""

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
            return cls(FastTokenizer.from_file(str(folder / "tokenizer.json")), _end_of(folder))
        for vocabulary, merges, added in _BPE_FILES:
            if (folder / vocabulary).is_file() and (folder / merges).is_file():
                fast = _byte_level(BPE.from_file(str(folder / vocabulary), str(folder / merges)))
                _add_tokens(fast, folder / added, _end_of(folder))
                return cls(fast, _end_of(folder))
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
        fast = _byte_level(BPE())
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

    def prompt_ids(self, question: str) -> list[int]:
        """The ids of a question's prompt."""
        return self.encode(programs.prompt(question))

    def program_ids(self, program: str) -> list[int]:
        """The ids of a program, with the end token."""
        return [*self.encode(program), self.end_token]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these ids; the end token and ids without a token are left out."""
        return self._fast.decode(list(ids), skip_special_tokens=True)

    @property
    def fingerprint(self) -> str:
        """A digest that is equal for tokenizers that give the same ids, however they were saved.

        transformers, for example, adds a post-processor to every tokenizer that it saves; it only
        adds special tokens, which are never requested here.
        """
        content = json.loads(self._fast.to_str())
        for name in ("version", "post_processor", "decoder"):
            content.pop(name, None)
        content["model"]["vocab"] = self._fast.get_vocab(with_added_tokens=True)
        return files.sha256_json([_decisive(content), self._end])

    def difference(self, other: "Tokenizer") -> str:
        """How another tokenizer's ids differ, as the end of a sentence; empty if they do not."""
        if self.fingerprint == other.fingerprint:
            return ""
        if self._end != other._end:
            return f"the end token is {self._end!r} in one and {other._end!r} in the other"
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

    def save(self, folder: Path) -> list[Path]:
        """Write Hugging Face files, which `load` and transformers' AutoTokenizer read."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / "tokenizer.json", folder / "tokenizer_config.json"]
        with files.replacing(paths[0]) as temporary:
            self._fast.save(str(temporary))
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": self._end,
            "bos_token": self._end,
            "pad_token": self._end,
            "clean_up_tokenization_spaces": False,
        }
        files.write_json(paths[1], config)
        return paths


def refuse_different(tokenizers: Mapping[str, Tokenizer]) -> None:
    """Refuse models and data whose tokenizers give different ids.

    Args:
        tokenizers: Tokenizers by the setting, with its value, of the model or data they are of.

    Raises:
        DataError: two of them differ; says in what.
    """
    named = list(tokenizers.items())
    for name, tokenizer in named[1:]:
        if difference := named[0][1].difference(tokenizer):
            raise DataError(
                f"{named[0][0]} and {name} have different tokenizers, so that the same id means "
                f"different texts: {difference}; name a model and data of one tokenizer"
            )


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


def _byte_level(model: BPE) -> FastTokenizer:
    fast = FastTokenizer(model)
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    fast.decoder = decoders.ByteLevel()
    return fast


def _end_of(folder: Path) -> str:
    """The end token's text, from `tokenizer_config.json` where there is one."""
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return END
    end: Any = files.read_json_object(path).get("eos_token") or END
    end = end.get("content") if isinstance(end, dict) else end
    if not isinstance(end, str):
        raise DataError(f"{path}: eos_token is {end!r}, not a text")
    return end


def _add_tokens(fast: FastTokenizer, path: Path, end: str) -> None:
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
