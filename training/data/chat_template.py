"""Renders the chat template of a tokenizer, as transformers' `apply_chat_template` does.

    template = ChatTemplate(source, {"bos_token": "<s>"})
    template.render("How many plums are there?")       # up to where the model answers

Templates come from the hub and are not trusted: they run in jinja2's sandbox, with transformers'
limits and helpers. One of these is absent, `strftime_now`: with it, a prompt would depend on the
day. Templates that ask for the date, as Llama 3.2's, have a fixed one for this case.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from training.errors import DataError


class ChatTemplate:
    """A compiled chat template, for conversations of one question.

    Args:
        source: The template, in jinja2's language.
        special_tokens: Its variables: `bos_token`, `eos_token` and so on.

    Raises:
        DataError: it is no template.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        self._variables = dict(special_tokens)
        try:
            self._template = _environment().from_string(source)
        except TemplateError as error:
            raise DataError(f"the tokenizer's chat template is damaged: {error}") from error

    def render(self, question: str) -> str:
        """The text of a user's question, up to where the assistant's answer begins.

        Raises:
            DataError: the template refuses such a conversation, or is not possible.
        """
        try:
            return self._template.render(
                messages=[{"role": "user", "content": question}],
                tools=None,
                documents=None,
                add_generation_prompt=True,
                **self._variables,
            )
        except Exception as error:  # an expression of a template may raise anything
            raise DataError(
                "the tokenizer's chat template cannot be applied to a single question of a user: "
                f"{type(error).__name__}: {error}"
            ) from error


class _Generation(Extension):
    """`{% generation %}`, which marks the assistant's text in some templates and writes nothing."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        """The block's content."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _Dict:
    """Makes dictionaries, without the attributes of their class."""

    def __call__(self, *args: Any, **entries: Any) -> dict[Any, Any]:
        return dict(*args, **entries)

    def fromkeys(self, keys: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)


class _Namespace(Namespace):
    """Refuses underscored names, through which a template would reach the interpreter."""

    def __init__(*args: Any, **attributes: Any) -> None:
        # As jinja2's: an attribute may be called `self`.
        for name in dict(*args[1:], **attributes):
            _refuse_underscore(name)
        Namespace.__init__(*args, **attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_underscore(name)
        super().__setitem__(name, value)


def _refuse_underscore(name: object) -> None:
    if str(name).startswith("_"):
        raise SecurityError(f"a namespace has no attribute {name!r}")


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    names: dict[str, Any] = {"raise_exception": _raise, "namespace": _Namespace, "dict": _Dict()}
    environment.globals.update(names)
    return environment


def _raise(message: str) -> None:
    raise TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """jinja2's own filter would escape what HTML needs escaped."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
