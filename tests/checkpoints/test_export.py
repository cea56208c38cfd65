# pyright: reportPrivateUsage=false
"""Exports: both heads in every dtype, read back by transformers; what differs; kills."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PhiForCausalLM,
    PhiForSequenceClassification,
)

from checkpoints import export as exporting
from checkpoints import export_check
from checkpoints.export import export
from checkpoints.export_check import ExportDiffers
from launch.export import main
from tests.checkpoints.exporting import nothing_left, random_model, write_checkpoint
from tests.ranks import ROOT
from tests.training.evaluation import models
from training.config.values import Precision
from training.data.tokenizer import Tokenizer
from training.errors import ConfigError
from training.execution.programs import prompt
from training.models import huggingface
from training.models.attention import causal_attention
from training.models.dtypes import DTYPES
from training.models.heads import LanguageModel, Verifier

TOKENS = torch.randint(0, 320, (3, 40), generator=torch.Generator().manual_seed(7))
POSITIONS = torch.arange(40).expand(3, 40)


@pytest.fixture
def generator(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "run", random_model(LanguageModel))


def _rounded(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    return model.to(dtype).float()


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_generator_gives_the_training_states_logits(
    generator: Path, tmp_path: Path, name: Precision
) -> None:
    folder = tmp_path / "deep" / "generator"
    exported = export(generator, folder, DTYPES[name])
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert isinstance(theirs, PhiForCausalLM)
    source = _rounded(random_model(LanguageModel), DTYPES[name])
    with torch.no_grad():
        # fp32 on both sides, sums in another order; a wrong table would be off by 0.1 and more.
        torch.testing.assert_close(
            theirs(TOKENS).logits, source(TOKENS, POSITIONS, causal_attention), atol=1e-5, rtol=1e-5
        )
    assert exported.compared.largest_difference <= 1e-5
    assert exported.num_parameters == sum(p.numel() for p in source.parameters())
    config = json.loads((folder / "config.json").read_text())
    assert config["dtype"] == str(DTYPES[name]).removeprefix("torch.")
    assert json.loads((folder / "manifest.json").read_text())["facts"]["checkpoint"] == str(
        generator
    )
    assert _modes(folder) == {(folder / "config.json").stat().st_mode}


def _modes(folder: Path) -> set[int]:
    return {path.stat().st_mode for path in folder.iterdir()}


def test_an_exported_generator_answers(generator: Path, tmp_path: Path) -> None:
    assert main([str(generator), str(tmp_path / "out")]) == 0
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "out")
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    text = prompt("How many apples are 3 and 4?")
    asked = tokenizer(text, return_tensors="pt")
    assert asked["input_ids"][0].tolist() == models.tokenizer().encode(text)
    given = model.generate(**asked, max_new_tokens=5, do_sample=False)[0]
    # The same five tokens as our own model's greedy ones.
    expected = asked["input_ids"]
    ours = random_model(LanguageModel)
    for _ in range(len(given) - expected.shape[1]):
        positions = torch.arange(expected.shape[1])[None]
        following = ours(expected, positions, causal_attention)[0, -1].argmax()
        expected = torch.cat((expected, following.view(1, 1)), dim=1)
    assert len(given) > asked["input_ids"].shape[1]
    assert given.tolist() == expected[0].tolist()


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_verifier_keeps_its_head(tmp_path: Path, name: Precision) -> None:
    checkpoint = write_checkpoint(tmp_path / "run", random_model(Verifier))
    folder = tmp_path / "verifier"
    assert export(checkpoint, folder, DTYPES[name]).architecture == "PhiForSequenceClassification"
    theirs = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    assert isinstance(theirs, PhiForSequenceClassification)
    source = _rounded(random_model(Verifier), DTYPES[name])
    with torch.no_grad():
        scores = source(TOKENS, POSITIONS, causal_attention)
        found = torch.cat([theirs(row[None]).logits[:, 0] for row in TOKENS])
        torch.testing.assert_close(found, scores[:, -1], atol=1e-5, rtol=1e-5)
    assert float(scores.std()) > 0.1


@pytest.mark.parametrize("spare_rows", [20, 0])
@torch.no_grad()
def test_a_server_gets_the_scores_of_a_padded_batch(tmp_path: Path, spare_rows: int) -> None:
    num_ids = models.tokenizer().vocab_size
    source = random_model(Verifier, vocab_size=num_ids + spare_rows)
    folder = tmp_path / "verifier"
    export(write_checkpoint(tmp_path / "run", source), folder, torch.float32)
    theirs: Any = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    programs = [models.PROGRAM, "    return 7", "    a = 3\n    b = 4\n    return a + b"]
    ids = [
        [
            *tokenizer(prompt("How many are 3 and 4?")).input_ids,
            *tokenizer(program).input_ids,
            tokenizer.eos_token_id,
        ]
        for program in programs
    ]
    expected = torch.tensor(
        [
            source(torch.tensor([row]), torch.arange(len(row))[None], causal_attention)[0, -1]
            for row in ids
        ]
    )
    batch = tokenizer.pad({"input_ids": ids}, return_tensors="pt")
    torch.testing.assert_close(theirs(**batch).logits[:, 0], expected, atol=1e-5, rtol=1e-5)
    assert theirs.config.pad_token_id == tokenizer.pad_token_id == num_ids
    assert len(theirs.model.embed_tokens.weight) >= num_ids + 1
    # What the padding token is for: with the end token, the end of a program would not be read.
    theirs.config.pad_token_id = tokenizer.eos_token_id
    assert (theirs(**batch).logits[:, 0] - expected).abs().max() > 0.01
    assert Tokenizer.load(folder).fingerprint == models.tokenizer().fingerprint
    again = huggingface.load_verifier(folder)
    row = torch.tensor([ids[0]])
    score = again(row, torch.arange(row.shape[1])[None], causal_attention)[0, -1]
    torch.testing.assert_close(score, expected[0])


def test_many_files_when_one_would_be_too_large(
    generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = huggingface.write_folder

    def small_files(*arguments: Any, **keywords: Any) -> None:
        written(*arguments, **keywords, max_shard_bytes=10_000)

    monkeypatch.setattr(huggingface, "write_folder", small_files)
    export(generator, tmp_path / "out", torch.float32)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 2


def test_of_a_run_folder_the_newest_that_verifies_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    write_checkpoint(run, random_model(LanguageModel, seed=1), 3)
    second = write_checkpoint(run, random_model(LanguageModel, seed=2), 20)
    damaged = write_checkpoint(run, random_model(LanguageModel, seed=3), 100)
    (damaged / "universal" / "zero" / "head.bias" / "fp32.pt").write_bytes(b"short")
    exported = export(run, tmp_path / "out", torch.float32)
    assert exported.checkpoint == second
    assert "step_100 is skipped" in caplog.text
    loaded = huggingface.load_language_model(tmp_path / "out")
    assert torch.equal(loaded.head.weight, random_model(LanguageModel, seed=2).head.weight)  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]


def _rope(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace("10000.0", "10001.0"))


def _one_weight(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    # Of a token that no compared row holds: logits cannot tell.
    tensors["model.embed_tokens.weight"][_unseen()] += 1e-3
    save_file(tensors, path, metadata={"format": "pt"})


def _unseen() -> int:
    tokenizer = models.tokenizer()
    ids = [tokenizer.prompt_ids(question) for question in export_check._QUESTIONS]
    random = torch.randint(0, 320, (3, 64), generator=torch.Generator().manual_seed(0))
    return min(set(range(320)) - set(random.flatten().tolist()) - {i for row in ids for i in row})


def _one_missing(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["lm_head.bias"]
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_rope, "logits that differ by"),
        (_one_weight, "body.embedding.weight is not read back"),
        (_one_missing, "lm_head.bias"),
    ],
)
def test_a_folder_that_differs_is_not_left_behind(
    generator: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    harm: Callable[[Path], None],
    message: str,
) -> None:
    written = huggingface.write_folder

    def badly(folder: Path, *arguments: Any, **keywords: Any) -> None:
        written(folder, *arguments, **keywords)
        harm(folder)

    monkeypatch.setattr(huggingface, "write_folder", badly)
    with pytest.raises(ExportDiffers, match=message):
        export(generator, tmp_path / "out", torch.float32)
    assert nothing_left(tmp_path / "out")


def test_a_verifier_without_its_padding_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = huggingface.write_folder

    def without(*arguments: Any, **keywords: Any) -> None:
        written(*arguments, **{**keywords, "pad_token": None})

    monkeypatch.setattr(huggingface, "write_folder", without)
    checkpoint = write_checkpoint(tmp_path / "run", random_model(Verifier))
    with pytest.raises(ExportDiffers, match=r"config\.json .* has pad_token_id = None, not \d+:"):
        export(checkpoint, tmp_path / "out", torch.float32)
    assert nothing_left(tmp_path / "out")


def test_a_tokenizer_that_differs_is_not_left_behind(
    generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = Tokenizer.save

    def badly(tokenizer: Tokenizer, folder: Path, **keywords: Any) -> list[Path]:
        paths = saved(tokenizer, folder, **keywords)
        content = json.loads(paths[0].read_text())
        content["model"]["merges"] = []
        paths[0].write_text(json.dumps(content))
        return paths

    monkeypatch.setattr(Tokenizer, "save", badly)
    with pytest.raises(ExportDiffers, match="other ids"):
        export(generator, tmp_path / "out", torch.float32)
    assert nothing_left(tmp_path / "out")


def test_a_write_that_fails_is_one_message(generator: Path, tmp_path: Path) -> None:
    # Files may not grow beyond 30 KiB: to what writes them a full disk looks the same.
    command = f'ulimit -f 30; exec "{sys.executable}" launch/export.py "{generator}" "$0"'
    done = subprocess.run(
        ["bash", "-c", command, str(tmp_path / "out")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert "export.py: " in done.stderr and " cannot be written: " in done.stderr
    assert "Traceback" not in done.stderr
    assert nothing_left(tmp_path / "out")


@pytest.mark.parametrize("moment", ["writing", "comparing"])
def test_a_kill_leaves_no_folder_and_the_next_export_works(
    generator: Path, tmp_path: Path, moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    def die(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        if moment == "writing":
            huggingface.write_json = die
        else:
            exporting.compare = die
        export(generator, tmp_path / "out", torch.float32)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    export(generator, tmp_path / "out", torch.float32)
    assert f".out.{child}.tmp is what another export writes" in caplog.text
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")


def test_the_command_line_says_what_was_written(
    generator: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "run"), str(tmp_path / "out"), "--dtype", "bf16"]) == 0
    said = capsys.readouterr().out
    assert f"{tmp_path / 'out'}: PhiForCausalLM of {generator}" in said
    assert "in bf16" in said and "logits within" in said
    with pytest.raises(ConfigError, match="invalid choice: 'int8'"):
        main([str(generator), str(tmp_path / "other"), "--dtype", "int8"])
