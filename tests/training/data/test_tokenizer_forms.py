"""Tokenizers of other models' forms: special tokens, prompts, and programs that come back whole."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import normalizers, processors
from transformers import AutoTokenizer

from tests.training.data import tokenizer_forms
from tests.training.data.tokenizer_forms import PROGRAM, QUESTION
from training.data.tokenizer import Tokenizer
from training.errors import DataError, UserError
from training.execution import programs


@pytest.fixture(scope="module", params=tokenizer_forms.FORMS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tokenizer_forms.write(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.load(folder)


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def messages(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


def test_prompts_begin_as_transformers_texts_do(tokenizer: Tokenizer, theirs: Any) -> None:
    assert tokenizer.prompt_ids(QUESTION) == theirs(programs.prompt(QUESTION)).input_ids
    plain = tokenizer.with_template("Question: {question}\nProgram:\n")
    text = f"Question: {QUESTION}\nProgram:\n"
    assert plain.prompt_ids(QUESTION) == theirs(text).input_ids


@pytest.mark.parametrize(
    "question", [QUESTION, "  Two\nlines, $3.50 & <b>?  ", "\u00e9t\u00e9 \u6f22"]
)
def test_chat_prompts_are_those_of_transformers(
    tokenizer: Tokenizer, theirs: Any, question: str
) -> None:
    # Ours knows no date, so that prompts are the same on any day; the template then has its own.
    settings: dict[str, Any] = {"add_generation_prompt": True, "date_string": "26 Jul 2024"}
    chat = tokenizer.with_template("chat")
    expected = theirs.apply_chat_template(messages(question), tokenize=False, **settings)
    assert chat.template.text(question) == expected
    expected = theirs.apply_chat_template(messages(question), return_dict=False, **settings)
    assert chat.prompt_ids(question) == expected
    assert chat.prompts_ids([QUESTION, question]) == [chat.prompt_ids(QUESTION), expected]


def test_programs_are_tokenised_apart_and_come_back(tokenizer: Tokenizer) -> None:
    odd = "    x = 'caf\u00e9 \U0001f34e'  # a  b\n\n    return 1 if x else -2.50"
    for program, ids in zip((PROGRAM, odd), tokenizer.programs_ids([PROGRAM, odd]), strict=True):
        assert ids == tokenizer.program_ids(program)
        assert ids[-1] == tokenizer.end_token
        assert tokenizer.program(ids) == program
    tokenizer.refuse_lossy()


def test_a_program_continues_its_prompt_as_one_text_would(
    tokenizer: Tokenizer, theirs: Any
) -> None:
    # Across a line break no form here has a token that spans both.
    whole = theirs(programs.prompt(QUESTION) + "x = 3").input_ids
    assert [*tokenizer.prompt_ids(QUESTION), *tokenizer.program_ids("x = 3")[:-1]] == whole


def test_the_end_is_the_tokenizers_and_all_of_the_models_stop(
    tokenizer: Tokenizer, theirs: Any, folder: Path
) -> None:
    assert tokenizer.end_token == theirs.eos_token_id == tokenizer.end_tokens[0]
    path = folder / "generation_config.json"
    more = json.loads(path.read_text())["eos_token_id"] if path.exists() else []
    assert set(tokenizer.end_tokens) == {tokenizer.end_token, *more}


def test_a_question_cannot_write_special_tokens(tokenizer: Tokenizer, theirs: Any) -> None:
    special = [token for token in theirs.all_special_tokens if token != "<unk>"]
    question = f"What is 2 + 2?{''.join(special)} Nothing."
    for template in ("function", "chat", "{question}\n"):
        made = tokenizer.with_template(template)
        plain, hostile = (
            [token for token in made.prompt_ids(text) if token in theirs.all_special_ids]
            for text in (QUESTION, question)
        )
        assert plain == hostile
    assert theirs.convert_tokens_to_ids(special[0]) in tokenizer.with_template(
        special[0] + "{question}"
    ).prompt_ids(question), "what the template writes is a token"


def test_saving_keeps_all_of_it(tokenizer: Tokenizer, theirs: Any, tmp_path: Path) -> None:
    tokenizer.with_template("chat").save(tmp_path)
    again, transformers = Tokenizer.load(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert again.fingerprint == tokenizer.fingerprint and not again.difference(tokenizer)
    assert again.end_tokens == tokenizer.end_tokens
    assert again.template.setting == "chat" and again.knows_template
    chat = tokenizer.with_template("chat")
    assert again.prompt_ids(QUESTION) == chat.prompt_ids(QUESTION)
    for name in ("bos_token", "eos_token"):
        assert getattr(transformers, name) == getattr(theirs, name)
    assert transformers.pad_token == (theirs.pad_token or theirs.eos_token)
    assert transformers(QUESTION).input_ids == theirs(QUESTION).input_ids
    transformers.save_pretrained(tmp_path / "theirs")
    assert Tokenizer.load(tmp_path / "theirs").fingerprint == tokenizer.fingerprint


def test_a_verifiers_padding_is_never_the_end_token(
    tokenizer: Tokenizer, theirs: Any, tmp_path: Path
) -> None:
    pad_token = tokenizer.pad_token("verifier")
    assert tokenizer.pad_token("language_model") is None
    own = theirs.pad_token_id
    assert pad_token == (tokenizer.vocab_size if own in (None, tokenizer.end_token) else own)
    again = tokenizer
    for name in ("once", "twice"):
        again.save(tmp_path / name, head="verifier")
        transformers: Any = AutoTokenizer.from_pretrained(tmp_path / name)
        assert transformers.pad_token_id == pad_token
        again = Tokenizer.load(tmp_path / name)
        assert again.pad_token("verifier") == pad_token
        assert again.vocab_size == tokenizer.vocab_size, "the padding token is no token of texts"
        assert again.identity() == tokenizer.identity()
    again.save(tmp_path / "generator")
    transformers = AutoTokenizer.from_pretrained(tmp_path / "generator")
    assert transformers.pad_token == (theirs.pad_token or theirs.eos_token)


def test_without_a_record_prompts_are_function_headers(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    assert tokenizer.template.setting == "function" and not tokenizer.knows_template
    tokenizer.save(tmp_path)
    assert not (tmp_path / "prompt_template.json").exists()
    again = tokenizer.with_template("chat").without_template()
    again.save(tmp_path)
    assert not Tokenizer.load(tmp_path).knows_template


def test_a_tokenizer_that_begins_texts_otherwise_is_another_one(tmp_path: Path) -> None:
    tokenizer_forms.write("llama_3", tmp_path)
    begins = Tokenizer.load(tmp_path)
    fast = FastTokenizer.from_file(str(tmp_path / "tokenizer.json"))
    fast.post_processor = processors.ByteLevel()
    fast.save(str(tmp_path / "tokenizer.json"))
    plain = Tokenizer.load(tmp_path)
    assert begins.prompt_ids(QUESTION)[1:] == plain.prompt_ids(QUESTION)
    assert "texts begin with the ids" in begins.difference(plain)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("generation_config.json", '{"eos_token_id": 100000}', "stops at the id 100000"),
        ("generation_config.json", '{"eos_token_id": "x"}', "not an id or a list of ids"),
        ("generation_config.json", "[", "generation_config.json is not valid JSON"),
        ("tokenizer_config.json", '{"eos_token": "<|im_end|>", "chat_template": 3}', "not a text"),
        ("prompt_template.json", '{"prompt_template": 3}', "not a text"),
        ("prompt_template.json", "{}", "not a text"),
        ("chat_template.jinja", b"\xff", "is not UTF-8"),
    ],
)
def test_damaged_files_are_named(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    tokenizer_forms.write("qwen", tmp_path)
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message):
        Tokenizer.load(tmp_path)


def test_a_tokenizer_that_loses_white_space_is_refused(tmp_path: Path) -> None:
    tokenizer_forms.write("qwen", tmp_path)
    fast = FastTokenizer.from_file(str(tmp_path / "tokenizer.json"))
    fast.normalizer = normalizers.Replace("\n", " ")
    fast.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match="does not keep the line breaks"):
        Tokenizer.load(tmp_path).refuse_lossy()


def test_truncation_and_padding_of_a_file_are_not_applied(tmp_path: Path) -> None:
    tokenizer_forms.write("qwen", tmp_path)
    whole = Tokenizer.load(tmp_path)
    fast = FastTokenizer.from_file(str(tmp_path / "tokenizer.json"))
    fast.enable_truncation(8)
    fast.enable_padding(length=500)
    fast.save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer.load(tmp_path).prompts_ids([QUESTION]) == whole.prompts_ids([QUESTION])
