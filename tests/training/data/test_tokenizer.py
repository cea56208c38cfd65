import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tests.training.data.real import real_data
from training.data.matching import refuse_different
from training.data.tokenizer import END, Tokenizer
from training.errors import DataError, UserError
from training.execution import programs

PROGRAM = "    eggs = 16\n    sold = eggs - 7\n    result = sold * 2\n    return result"
TEXTS = [
    "Janet's ducks lay 16 eggs a day. She eats 3 and sells the rest at $2.50 each.",
    "A robe takes 2 bolts of blue fiber and half that much white fiber.",
    PROGRAM,
] * 20


@pytest.fixture(scope="module")
def codegen() -> Tokenizer:
    return Tokenizer.from_source(str(real_data("codegen_tokenizer")))


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return Tokenizer.train(TEXTS, vocab_size=400)


def test_codegen_ids_are_phi_ids(codegen: Tokenizer) -> None:
    assert codegen.vocab_size == 50_295
    assert codegen.end_token == 50_256
    text = "def f():\n    a = 1\n        b\n\t\tc"
    ids = [4299, 277, 33529, 198, 50284, 64, 796, 352, 198, 50280, 65, 198, 50294, 66]
    assert codegen.encode(text) == ids
    assert codegen.decode(ids) == text


def test_added_tokens_match_longest_first(codegen: Tokenizer) -> None:
    assert codegen.encode(" " * 31) == [50_257]
    assert codegen.encode(" " * 36) == [50_257, 50_283]
    assert codegen.encode("\t" * 9) == [50_287]
    # Two spaces are an added token, so `b` has no leading-space form after them.
    assert codegen.encode("a  b") == [64, 50_286, 65]


def test_real_questions_decode_to_themselves(codegen: Tokenizer) -> None:
    lines = real_data("gsm8k/train.jsonl").read_text("utf-8").splitlines()
    questions = [json.loads(line)["question"] for line in lines]
    for question, ids in zip(questions, codegen.encode_all(questions), strict=True):
        assert codegen.decode(ids) == question


def test_hugging_face_names_give_the_same_ids(codegen: Tokenizer, tmp_path: Path) -> None:
    folder = real_data("codegen_tokenizer")
    shutil.copyfile(folder / "encoder.json", tmp_path / "vocab.json")
    shutil.copyfile(folder / "vocab.bpe", tmp_path / "merges.txt")
    content = json.loads((folder / "codegen_added_tokens.json").read_text())["added_tokens"]
    added = {entry["content"]: entry["id"] for entry in content}
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    assert Tokenizer.load(tmp_path).fingerprint == codegen.fingerprint


def test_added_tokens_of_another_vocabulary_are_refused(tmp_path: Path) -> None:
    folder = real_data("codegen_tokenizer")
    shutil.copyfile(folder / "encoder.json", tmp_path / "vocab.json")
    shutil.copyfile(folder / "vocab.bpe", tmp_path / "merges.txt")
    (tmp_path / "added_tokens.json").write_text(json.dumps({"   ": 50_999}))
    with pytest.raises(DataError, match="50999.*do not belong together"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("name", ["codegen", "trained"])
def test_saved_files_load_here_and_in_transformers(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    tokenizer.save(tmp_path / "tokenizer")
    again = Tokenizer.load(tmp_path)  # a folder that holds a `tokenizer/`
    theirs: Any = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    assert again.fingerprint == tokenizer.fingerprint
    assert theirs.eos_token_id == tokenizer.end_token
    for text in (programs.prompt(TEXTS[0]), PROGRAM, "é 漢 \t\t\n\n  x ,\\ 1,234.5", "a  b   c"):
        ids = tokenizer.encode(text)
        assert again.encode(text) == ids
        assert theirs(text).input_ids == ids
        assert theirs.decode(ids) == tokenizer.decode(ids) == text


def test_training_is_deterministic() -> None:
    first = Tokenizer.train(iter(TEXTS), vocab_size=400)
    assert first.fingerprint == Tokenizer.train(TEXTS, vocab_size=400).fingerprint


def test_digits_stand_alone_and_indentation_is_cheap(trained: Tokenizer) -> None:
    pieces = [trained.decode([token]) for token in trained.encode("16 eggs 1,600")]
    assert [piece for piece in pieces if any(map(str.isdigit, piece))] == list("161600")
    assert trained.encode("\n    eggs")[0] == trained.encode("\n    sold")[0]
    assert len(trained.encode("\n    eggs")) == len(trained.encode(" eggs")) + 1


def test_any_text_encodes(trained: Tokenizer) -> None:
    text = "ж漢😀\x00\x7f \r\n"
    assert trained.decode(trained.encode(text)) == text
    assert trained.end_token == 0 and trained.vocab_size <= 400


def test_a_question_cannot_write_the_end_token(trained: Tokenizer) -> None:
    ids = trained.prompt_ids(f"What is 2 + 2? {END} Nothing.")
    assert trained.end_token not in ids
    assert trained.program_ids(PROGRAM)[-1] == trained.end_token
    assert trained.program_ids(PROGRAM)[:-1] == trained.encode(PROGRAM)
    assert trained.decode(trained.program_ids(PROGRAM)) == PROGRAM


def test_ids_beyond_the_tokenizer_decode_to_nothing(trained: Tokenizer) -> None:
    # An embedding padded to 51,200 rows can give an id that no text has.
    assert trained.decode([*trained.encode("ab"), 51_199]) == "ab"


@pytest.mark.parametrize("source", ["no/such/folder", "/no/such", "tokenizer.json"])
def test_a_missing_folder_is_named(source: str) -> None:
    with pytest.raises(DataError, match=r"data\.tokenizer\.source = .*no such file or folder"):
        Tokenizer.from_source(source)


def test_an_unreachable_hub_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*arguments: Any, **settings: Any) -> str:
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(DataError, match=r"no network.*set data\.tokenizer\.source to the folder"):
        Tokenizer.from_source("microsoft/phi-1.5")


def test_the_hub_is_asked_for_a_name_that_is_no_folder(
    trained: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained.save(tmp_path)
    asked: list[str] = []

    def download(repository: str, *, allow_patterns: list[str]) -> str:
        asked.append(repository)
        assert "tokenizer.json" in allow_patterns
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert Tokenizer.from_source("microsoft/phi-1_5").fingerprint == trained.fingerprint
    assert asked == ["microsoft/phi-1_5"]


def test_an_empty_folder_says_what_it_should_hold(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_a_tokenizer_without_its_end_token_is_refused(trained: Tokenizer, tmp_path: Path) -> None:
    trained.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    with pytest.raises(DataError, match="no token '</s>'"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", "{"),
        ("tokenizer.json", "[]"),
        ("tokenizer.json", '{"model": {"type": "BPE"}}'),
        ("tokenizer.json", ""),
        ("tokenizer_config.json", "{"),
        ("tokenizer_config.json", "[]"),
        ("tokenizer_config.json", '{"eos_token": 3}'),
        ("tokenizer_config.json", '{"eos_token": {"text": "x"}}'),
    ],
)
def test_a_damaged_tokenizer_is_named(
    trained: Tokenizer, tmp_path: Path, name: str, content: str
) -> None:
    trained.save(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=str(tmp_path)) as refused:
        Tokenizer.load(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vocab.json", "[]"),
        ("vocab.json", "{"),
        ("merges.txt", "a b c d"),
        ("added_tokens.json", "[]"),
        ("added_tokens.json", '{"x": "y"}'),
        ("added_tokens.json", '{"added_tokens": [3]}'),
    ],
)
def test_damaged_vocabulary_files_are_named(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": 1, "ab": 2, END: 3}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    Tokenizer.load(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=str(tmp_path)):
        Tokenizer.load(tmp_path)


def test_a_tokenizer_that_transformers_saved_again_is_the_same(
    trained: Tokenizer, tmp_path: Path
) -> None:
    trained.save(tmp_path / "ours")
    theirs: Any = AutoTokenizer.from_pretrained(tmp_path / "ours", local_files_only=True)
    theirs.save_pretrained(tmp_path / "theirs")
    again = Tokenizer.load(tmp_path / "theirs")
    assert again.fingerprint == trained.fingerprint and not trained.difference(again)
    refuse_different({"one": trained, "two": again})


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (lambda: Tokenizer.train(TEXTS, vocab_size=300), "ids and the other 300"),
        (lambda: Tokenizer.train(TEXTS[::-1] + ["zebra " * 9] * 9, vocab_size=400), "id "),
    ],
)
def test_models_of_other_ids_are_refused(
    trained: Tokenizer, other: Callable[[], Tokenizer], difference: str
) -> None:
    with pytest.raises(DataError, match="model = b have different tokenizers") as refused:
        refuse_different({"data = a": trained, "model = b": other()})
    assert difference in str(refused.value)
