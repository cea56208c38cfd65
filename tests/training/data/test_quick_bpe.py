import gzip
import json
import random
from pathlib import Path

import pytest
from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer

from tests.training.data.real import real_data
from training.data import quick_bpe
from training.data.quick_bpe import QuickBpe
from training.data.tokenizer import Tokenizer


def codegen() -> FastTokenizer:
    folder = real_data("codegen_tokenizer")
    return Tokenizer.load(folder)._fast  # pyright: ignore[reportPrivateUsage]


def assert_equal(fast: FastTokenizer, texts: list[str]) -> None:
    quick = QuickBpe.of(fast)
    assert quick is not None
    expected = fast.encode_batch_fast(texts, add_special_tokens=False)
    wrong = [
        text
        for text, encoding in zip(texts, expected, strict=True)
        if quick.encode(text) != encoding.ids
    ]
    assert wrong == []


def test_equal_ids_on_real_texts() -> None:
    texts: list[str] = []
    with gzip.open(real_data("programs/programs.jsonl.gz"), "rt", encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            texts += [row["code"], row["question"] or ""]
    for split in ("train", "test"):
        for line in Path(real_data(f"gsm8k/{split}.jsonl")).read_text("utf-8").splitlines():
            texts += [json.loads(line)["question"], json.loads(line)["answer"]]
    assert len(texts) > 50_000
    assert_equal(codegen(), texts)


def test_equal_ids_on_random_white_space_and_words() -> None:
    draw = random.Random(7)
    parts = [*" \t\n\r\x0b\x0c\u00a0\u2028", "  ", "\t\t", "a", "The", "7", "$", "'s"]
    parts += ["\u00e9", "\n\n  "]
    parts += [" " * 31, " " * 32, " " * 62, "\t" * 9, "\t" * 10, "<|endoftext|>", "\U0001f34e"]
    assert_equal(codegen(), ["".join(draw.choices(parts, k=30)) for _ in range(5000)])


def test_the_tokenizer_uses_it_and_gives_the_same_ids() -> None:
    tokenizer = Tokenizer.load(real_data("codegen_tokenizer"))
    texts = ["def f():\n    a = 1\n        b\n\t\tc", "", "x" * 30_000]
    for some in (texts[:2], texts):
        assert tokenizer.encode_all(some) == [tokenizer.encode(text) for text in some]


def test_other_tokenizers_have_none() -> None:
    trained = Tokenizer.train(["def f():\n    return 3"] * 9, vocab_size=300)
    assert QuickBpe.of(trained._fast) is None  # pyright: ignore[reportPrivateUsage]
    fast = codegen()
    fast.normalizer = normalizers.NFC()
    assert QuickBpe.of(fast) is None
    fast = codegen()
    fast.pre_tokenizer = pre_tokenizers.Split(Regex(r"\d"), behavior="isolated")
    assert QuickBpe.of(fast) is None


@pytest.mark.parametrize("added", ["==", "   x", "\n\n"])
def test_an_added_token_of_another_kind_is_refused(added: str) -> None:
    fast = codegen()
    fast.add_tokens([AddedToken(added, normalized=False)])
    assert QuickBpe.of(fast) is None


def test_a_tokenizer_whose_ids_differ_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_bpe, "_PLAIN", (r"\w+", r"[^\s\w]+"))
    assert QuickBpe.of(codegen()) is None
