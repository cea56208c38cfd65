"""A tiny generator and a tiny verifier on disk, of random weights, and questions for them."""

import json
from pathlib import Path
from typing import Any

import torch

from tests.initial_values import initialise
from training.data.tokenizer import Tokenizer
from training.execution.programs import prompt
from training.lifecycle.signals import Stopped
from training.models.heads import LanguageModel, Verifier
from training.models.huggingface import save
from training.models.shape import ModelShape
from training.records import Question

PROGRAM = "    result = 3 + 4\n    return result"


def tokenizer() -> Tokenizer:
    return Tokenizer.train([prompt("How many apples are 3 and 4?") + PROGRAM], vocab_size=300)


def shape(vocab_size: int = 320) -> ModelShape:
    return ModelShape(
        hidden_size=16,
        num_layers=1,
        num_heads=2,
        ffn_size=32,
        vocab_size=vocab_size,
        max_tokens=256,
    )


def generator(seed: int = 0, vocab_size: int = 320) -> LanguageModel:
    model = LanguageModel(shape(vocab_size))
    # Wide weights: a distribution that is not flat, so that temperatures differ.
    initialise(model, seed=seed, std=0.5)
    return model.eval()


def write_generator(folder: Path, seed: int = 0, vocab_size: int = 320) -> Path:
    save(generator(seed, vocab_size), folder, end_token=tokenizer().end_token)
    tokenizer().save(folder)
    return folder


def write_overflowing(folder: Path) -> Path:
    """A generator of finite weights whose logits are not finite."""
    model = generator()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(3e38)
    save(model, folder, end_token=tokenizer().end_token)
    tokenizer().save(folder)
    return folder


def write_verifier(folder: Path, seed: int = 0) -> Path:
    model = Verifier(shape())
    initialise(model, seed=seed, std=0.5)
    save(model, folder)
    tokenizer().save(folder)
    return folder


def questions(count: int) -> list[Question]:
    return [
        Question(
            id=f"q-{i}",
            text=f"How many apples are {i} and 4?",
            gold=float(i + 4),
            tags={"operations": 1 + i % 2},
        )
        for i in range(count)
    ]


def write_gsm8k(folder: Path, count: int) -> Path:
    """Questions in GSM8K's form, as `train.jsonl` and `test.jsonl`."""
    folder.mkdir(parents=True)
    lines: list[dict[str, Any]] = [
        {
            "question": question.text,
            "answer": f"<<{i}+4={i + 4}>>\n#### {i + 4}",
        }
        for i, question in enumerate(questions(count))
    ]
    for split in ("train", "test"):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


class LeavesAt:
    """A cancellation check that raises at the n-th call."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        if self.calls == self._number:
            raise Stopped
