"""Prepared data of other tokenizers and prompts: what is stored, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import small
from tests.training.data import tokenizer_forms
from tests.training.data.preparing import QUESTION, config, content, jsonl, row
from tests.training.data.test_sources import PROGRAM, candidate
from training import manifest
from training.config import ConfigError, PrepareConfig
from training.data import candidates
from training.data.dataset import SequenceDataset
from training.data.matching import GENERATORS_TOKENIZER
from training.data.pack import Mode
from training.data.prepare import prepare
from training.data.prepared import compare, tokenizer_of
from training.data.tokenizer import Tokenizer
from training.errors import DataError


def wanted(folder: Path, tokenizer: Path, **data: Any) -> PrepareConfig:
    return config(
        folder / "data", jsonl(folder, row()), tokenizer={"source": str(tokenizer)}, **data
    )


def stored(folder: Path) -> tuple[list[int], list[int], list[int]]:
    """Prompt, program and modes of the only example."""
    dataset = SequenceDataset(folder, sequence_length=512)
    assert len(dataset) == 1
    sequence = dataset.sequence(0)
    prompt, program = np.split(sequence.tokens, [sequence.lengths[0]])
    return prompt.tolist(), program.tolist(), sequence.modes.tolist()


@pytest.mark.parametrize("form", tokenizer_forms.FORMS)
@pytest.mark.parametrize("template", ["function", "chat", "Q: {question}\nProgram:\n"])
def test_examples_are_stored_as_they_are_sampled(tmp_path: Path, form: str, template: str) -> None:
    folder = tokenizer_forms.write(form, tmp_path / form)
    made = wanted(tmp_path, folder, prompt_template=template)
    prepare(made)
    tokenizer = Tokenizer.load(folder).with_template(template)
    prompt, program, modes = stored(made.data.folder)
    assert prompt == tokenizer.prompt_ids(QUESTION)
    assert program == tokenizer.program_ids(PROGRAM) and tokenizer.program(program) == PROGRAM
    assert modes == [Mode.CONTEXT, Mode.SUPERVISED]
    assert compare(made).is_current


def test_ids_above_16_bits_are_stored_whole(tmp_path: Path) -> None:
    folder = tokenizer_forms.write_wide(tmp_path / "wide")
    made = wanted(tmp_path, folder)
    facts = prepare(made)
    prompt, program, _ = stored(made.data.folder)
    tokenizer = Tokenizer.load(folder)
    assert min(prompt) > 65_535 and facts["vocab_size"] == 66_257
    assert prompt == tokenizer.prompt_ids(QUESTION) and program == tokenizer.program_ids(PROGRAM)
    shard = made.data.folder / "rows_00000.bin"
    assert shard.stat().st_size == 4 * facts["tokens"]
    train = small.config(tmp_path, data={"tokenizer": {"source": str(folder)}})
    with pytest.raises(ConfigError, match=r"model\.vocab_size = 512 is below .* 66257 ids"):
        tokenizer_of(train)
    size = train.model.model_copy(update={"vocab_size": 66_257})
    assert tokenizer_of(train.model_copy(update={"model": size})).vocab_size == 66_257


def test_the_default_is_not_recorded_so_that_older_data_stays_current(tmp_path: Path) -> None:
    folder = tokenizer_forms.write("qwen", tmp_path / "qwen")
    made = wanted(tmp_path, folder)
    prepare(made)
    assert "prompt_template" not in manifest.read(made.data.folder)["config"]["data"]
    assert "tokenizer/prompt_template.json" not in content(made.data.folder)
    changed = wanted(tmp_path, folder, prompt_template="{question}")
    assert "data.prompt_template" in compare(changed).differences[0]


def test_another_chat_template_makes_other_data(tmp_path: Path) -> None:
    folder = tokenizer_forms.write("llama_3", tmp_path / "llama")
    made = wanted(tmp_path, folder, prompt_template="chat")
    plain = wanted(tmp_path / "qwen", folder) if (tmp_path / "qwen").mkdir() is None else made
    for one in (made, plain):
        prepare(one)
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text() + "{{ 'Think!' }}")
    (line,) = compare(made).differences
    assert line.startswith(f"data.tokenizer ({folder}) had the fingerprint")
    assert compare(plain).is_current, "it does not use the template"
    prepare(made)
    assert stored(made.data.folder)[0][-6:] == Tokenizer.load(folder).encode("Think!")[-6:]


@pytest.mark.parametrize(
    ("form", "template", "error", "message"),
    [
        (None, "chat", ConfigError, "the tokenizer has no chat template"),
        ("qwen", "function", DataError, "= 'function', and data.tokenizer.source = .* with 'chat'"),
    ],
)
def test_prompts_that_the_tokenizer_is_not_for_are_refused(
    tmp_path: Path, form: str | None, template: str, error: type[Exception], message: str
) -> None:
    folder = tmp_path / "tokenizer"
    if form:  # a model that was trained on chats
        tokenizer_forms.write(form, tmp_path / form)
        Tokenizer.load(tmp_path / form).with_template("chat").save(folder)
    else:
        Tokenizer.train([QUESTION, PROGRAM], vocab_size=300).save(folder)
    with pytest.raises(error, match=message):
        prepare(wanted(tmp_path, folder, prompt_template=template))
    assert not (tmp_path / "data").exists()


def test_candidates_of_generators_with_another_tokenizer_are_refused(tmp_path: Path) -> None:
    folder = tokenizer_forms.write("qwen", tmp_path / "qwen")
    other = tokenizer_forms.write("smollm", tmp_path / "smollm")
    path = candidates.part_path(tmp_path / "candidates", 0)
    path.parent.mkdir()
    candidates.write(path, [candidate(), candidate("    return 1", "wrong")], labels={})
    manifest.commit(
        path.parent,
        stage="sample",
        config={},
        inputs={},
        outputs=[path],
        facts={GENERATORS_TOKENIZER: Tokenizer.load(folder).identity()},
    )
    source = {"kind": "candidates", "path": str(path.parent)}

    def of(tokenizer: Path) -> PrepareConfig:
        return config(tmp_path / "data", source, tokenizer={"source": str(tokenizer)})

    with pytest.raises(DataError, match=r"data\.sources\.0\.path = .*tokenizer\.source = .*smollm"):
        prepare(of(other))
    assert prepare(of(folder))["examples"] == 2
    content = json.loads((path.parent / "manifest.json").read_text())
    del content["facts"][GENERATORS_TOKENIZER]  # sampled before it was recorded
    (path.parent / "manifest.json").write_text(json.dumps(content))
    shutil.rmtree(tmp_path / "data")
    assert prepare(of(other))["examples"] == 2
