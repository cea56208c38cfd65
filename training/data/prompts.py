"""Makes the prompt of a question: the text that a model continues with its answer.

    template = PromptTemplate("chat", special_tokens, texts=tokenizer_texts)
    template.text("How many plums are there?")

`data.prompt_template` chooses one of three forms: TinyGSM's function header, the tokenizer's chat
template, or a text with `{question}` in it. The tokenizer turns the text into ids
(training/data/tokenizer.py), for training, sampling and scoring alike.
"""

import re
from collections.abc import Iterable

from training import files
from training.config import ConfigError
from training.config.values import CHAT_PROMPT, FUNCTION_PROMPT, QUESTION
from training.data.chat_template import ChatTemplate
from training.data.special_tokens import SpecialTokens
from training.errors import DataError
from training.execution import programs

_SAMPLE = "Maya has 3 boxes with 4 pens each. How many pens does she have?"


class PromptTemplate:
    """How a question becomes a prompt.

    Args:
        setting: `data.prompt_template`.
        special_tokens: The tokenizer's, with its chat template.
        texts: The texts of all its special tokens.

    Raises:
        ConfigError: the setting is `chat`, and the tokenizer has no chat template.
        DataError: its chat template cannot be applied, or leaves the question out.
    """

    def __init__(
        self, setting: str, special_tokens: SpecialTokens, *, texts: Iterable[str] = ()
    ) -> None:
        self.setting = setting
        self._chat: ChatTemplate | None = None
        self._chat_source = special_tokens.chat_template if setting == CHAT_PROMPT else ""
        longest_first = sorted(filter(None, texts), key=lambda text: (-len(text), text))
        self._special = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        if setting != CHAT_PROMPT:
            return
        if not self._chat_source:
            raise ConfigError(
                f"prompt_template = {CHAT_PROMPT!r}, but the tokenizer has no chat template: "
                "neither its tokenizer_config.json nor a chat_template.jinja beside it gives one; "
                f"set {FUNCTION_PROMPT!r} or a text with {QUESTION}"
            )
        self._chat = ChatTemplate(self._chat_source, special_tokens.variables)
        if _SAMPLE not in (rendered := self.text(_SAMPLE)):
            raise DataError(
                "the tokenizer's chat template leaves the question out, or changes it: of "
                f"{_SAMPLE!r} it makes {rendered!r}"
            )

    @property
    def writes_special_tokens(self) -> bool:
        """Whether the texts of special tokens in the prompt are these tokens."""
        return self.setting != FUNCTION_PROMPT

    @property
    def writes_first_token(self) -> bool:
        """Whether the template itself begins with the tokenizer's first token, where it has one."""
        return self._chat is not None

    @property
    def fingerprint(self) -> str:
        """A digest that is equal for templates that give the same prompts."""
        return files.sha256_json([self.setting, self._chat_source])

    def text(self, question: str) -> str:
        """The prompt's text.

        Where special tokens in it are read as such, those that the question contains are taken
        apart by a space: it could otherwise end its turn and begin another one.

        Raises:
            DataError: the chat template cannot be applied.
        """
        if self.setting == FUNCTION_PROMPT:
            return programs.prompt(question)
        question = self._special.sub(lambda found: f"{found[0][0]} {found[0][1:]}", question)
        if self._chat is not None:
            return self._chat.render(question)
        return self.setting.replace(QUESTION, question)
