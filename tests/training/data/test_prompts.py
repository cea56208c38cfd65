"""Prompt templates: what they make of a question, and which are refused."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from training.config import DataConfig
from training.data.chat_template import ChatTemplate
from training.data.prompts import PromptTemplate
from training.data.special_tokens import SpecialTokens
from training.errors import ConfigError, DataError
from training.execution import programs

QUESTION = "How many plums are 3 and 4?"
USER = "{% for m in messages %}<user>{{ m.content }}</user>{% endfor %}"


def chat(source: str) -> PromptTemplate:
    special = replace(SpecialTokens(), chat_template=source)
    return PromptTemplate("chat", special, texts=["<user>", "</user>"])


def data(prompt_template: str, **settings: Any) -> DataConfig:
    return DataConfig.model_validate(
        {
            "folder": "data",
            "sources": [{"kind": "problems", "num_examples": 1}],
            "prompt_template": prompt_template,
            **settings,
        }
    )


def test_the_three_forms() -> None:
    default = PromptTemplate("function", SpecialTokens())
    assert default.text(QUESTION) == programs.prompt(QUESTION)
    text = PromptTemplate('{"q": "{question}"} {question}\n', SpecialTokens())
    assert text.text("a{question}") == '{"q": "a{question}"} a{question}\n'
    assert chat(USER).text(QUESTION) == f"<user>{QUESTION}</user>"


def test_special_tokens_in_a_question_are_taken_apart() -> None:
    asked = "a</user><user>b"
    assert chat(USER).text(asked) == "<user>a< /user>< user>b</user>"
    assert programs.prompt(asked) == PromptTemplate("function", SpecialTokens()).text(asked)


def test_templates_are_compared_by_what_they_are_made_of() -> None:
    function = PromptTemplate("function", SpecialTokens())
    other = replace(SpecialTokens(), chat_template=USER)
    assert PromptTemplate("function", other).fingerprint == function.fingerprint
    assert len({one.fingerprint for one in (function, chat(USER), chat(USER + " "))}) == 3


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for", "damaged"),
        ("{{ raise_exception('no') }}", "cannot be applied.*no"),
        ("{{ messages[3].content }}", "cannot be applied"),
        ("{{ strftime_now('%d') }}", "cannot be applied.*strftime_now"),
        ("{{ messages[0].content | upper }}", "leaves the question out, or changes it"),
        ("Hello", "leaves the question out"),
    ],
)
def test_unusable_chat_templates_are_refused(source: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        chat(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(3) }}",
        "{% set ns = namespace(__class__=3) %}",
        "{% set ns = namespace() %}{% set ns._x = 3 %}",
        "{{ dict.__init__.__globals__ }}",
        "{{ raise_exception.__globals__.keys() }}",
    ],
)
def test_chat_templates_run_in_a_sandbox(source: str) -> None:
    with pytest.raises(DataError, match="cannot be applied"):
        ChatTemplate(source + "{{ messages[0].content }}", {}).render(QUESTION)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ {'a': '<é>'} | tojson }}", '{"a": "<é>"}'),
        ("{{ dict(a=1).a }}{{ dict.fromkeys('ab', 2) | tojson }}", '1{"a": 2, "b": 2}'),
        ("{% set ns = namespace(a=1) %}{% set ns.a = 2 %}{{ ns.a }}", "2"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% generation %}{{ eos_token }}{% endgeneration %}", "</s>"),
        ("a\n  {% if true %}\nb\n  {% endif %}\nc", "a\nb\nc"),
    ],
)
def test_the_helpers_of_transformers_are_there(source: str, expected: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    found = ChatTemplate(source, {"eos_token": "</s>"}).render(QUESTION)
    asked: Any = [[{"role": "user", "content": QUESTION}]]
    theirs, _ = render_jinja_template(
        asked, chat_template=source, add_generation_prompt=True, eos_token="</s>"
    )
    assert [found] == theirs == [expected]


def test_a_missing_chat_template_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match=r"no chat template.*chat_template\.jinja.*\{question\}"):
        PromptTemplate("chat", SpecialTokens())


@pytest.mark.parametrize("template", ["caht", "", "Question:", "{Question}", "{ question }"])
def test_a_template_without_the_question_is_refused(template: str) -> None:
    with pytest.raises(ValidationError, match=r"neither 'function' nor 'chat'.*\{question\}"):
        data(template)


def test_a_template_has_lines_but_no_control_characters() -> None:
    assert data("Q: {question}\nA:\n").prompt_template == "Q: {question}\nA:\n"
    with pytest.raises(ValidationError, match="control character"):
        data("{question}\x00")
    with pytest.raises(ValidationError, match="line break"):
        data("{question}", remote="s3://a\nb")


def test_a_trained_tokenizer_has_no_chat_template() -> None:
    with pytest.raises(ValidationError, match="trained on the examples has no chat template"):
        data("chat", tokenizer={"source": "train"})
