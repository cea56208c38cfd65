# pyright: reportPrivateUsage=false
"""Exports that are refused: checkpoints that are none, folders that are taken, no room."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints import export as exporting
from checkpoints.export import export
from tests.checkpoints.exporting import nothing_left, random_model, write_checkpoint
from training.disk import NoSpace
from training.errors import CheckpointError, ConfigError
from training.models.build import WEIGHTS
from training.models.heads import LanguageModel


@pytest.fixture
def generator(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "run", random_model(LanguageModel))


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _extra(folder: Path) -> None:
    path = folder / "universal" / "zero" / "body.blocks.1.fc1.bias"
    path.mkdir()
    torch.save({"param": torch.zeros(32)}, path / "fp32.pt")


def _other_size(folder: Path) -> None:
    path = folder / "universal" / "zero" / "head.bias" / "fp32.pt"
    torch.save({"param": torch.zeros(319)}, path)


def _other_model(folder: Path) -> None:
    path = folder / WEIGHTS / "config.json"
    path.write_text(path.read_text().replace('"model_type": "phi"', '"model_type": "gpt2"'))


def _not_a_number(folder: Path) -> None:
    path = folder / "universal" / "zero" / "head.bias" / "fp32.pt"
    torch.save({"param": torch.full((320,), float("nan"))}, path)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_without("universal/zero/head.bias/fp32.pt"), "lacks .*head.bias/fp32.pt"),
        (_extra, r"has, unexpectedly, .*body.blocks.1.fc1.bias"),
        (_other_size, r"is \[319\], the model's head.bias is \[320\]"),
        (_other_model, "model_type is 'gpt2'; supported are phi, llama"),
        (_not_a_number, "head.bias .* reaches nan"),
        (_without(f"{WEIGHTS}/config.json"), "has no config.json"),
        (_without(f"{WEIGHTS}/tokenizer.json"), "holds no tokenizer"),
    ],
)
def test_checkpoints_that_are_wrong_inside_are_refused(
    tmp_path: Path, harm: Callable[[Path], None], message: str
) -> None:
    checkpoint = write_checkpoint(tmp_path / "run", random_model(LanguageModel), harm=harm)
    with pytest.raises(CheckpointError, match=message):
        export(checkpoint, tmp_path / "out", torch.float32)
    assert nothing_left(tmp_path / "out")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("flip", "head.bias/fp32.pt has changed"),
        ("remove", "head.bias/fp32.pt is missing"),
        ("manifest", "manifest cannot be read"),
        ("add", "strange.json is in no manifest"),
    ],
)
def test_checkpoints_that_changed_since_are_refused(
    generator: Path, tmp_path: Path, harm: str, message: str
) -> None:
    path = generator / "universal" / "zero" / "head.bias" / "fp32.pt"
    if harm == "flip":
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif harm == "remove":
        path.unlink()
    elif harm == "manifest":
        (generator / "manifest.json").write_text("{")
    else:
        (generator / WEIGHTS / "strange.json").write_text("{}")
    with pytest.raises(CheckpointError, match=message):
        export(generator, tmp_path / "out", torch.float32)
    if harm != "add":
        with pytest.raises(CheckpointError, match="holds no checkpoint that verifies"):
            export(tmp_path / "run", tmp_path / "out", torch.float32)
    assert nothing_left(tmp_path / "out")


def test_what_is_no_checkpoint_is_named(generator: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint or run folder .*nowhere"):
        export(tmp_path / "nowhere", tmp_path / "out", torch.float32)
    for path in (generator.parent, generator / WEIGHTS, tmp_path):
        with pytest.raises(CheckpointError, match="is neither a checkpoint .* nor a run"):
            export(path, tmp_path / "out", torch.float32)
    unfinished = generator.rename(generator.with_name("step_2.tmp"))
    with pytest.raises(CheckpointError, match="being written, or one that was cut short"):
        export(unfinished, tmp_path / "out", torch.float32)
    with pytest.raises(CheckpointError, match="holds no checkpoint that verifies"):
        export(tmp_path / "run", tmp_path / "out", torch.float32)
    assert nothing_left(tmp_path / "out")


def test_nothing_that_is_there_is_written_to(generator: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "config.json").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "full")
    for name, message in [("file", "no folder"), ("full", "not empty"), ("link", "no folder")]:
        with pytest.raises(FileExistsError, match=message):
            export(generator, tmp_path / name, torch.float32)
    for inside in (generator / "out", generator.parent / "step_3"):
        with pytest.raises(ConfigError, match="which training writes"):
            export(generator, inside, torch.float32)
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["config.json"]
    assert (tmp_path / "full" / "config.json").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    export(generator, tmp_path / "empty", torch.float32)
    assert (tmp_path / "empty" / "config.json").is_file()


def test_a_folder_that_appears_meanwhile_is_not_replaced(
    generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = exporting.compare

    def and_somebody_writes(*arguments: Any) -> Any:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").write_text("theirs")
        return compare(*arguments)

    monkeypatch.setattr(exporting, "compare", and_somebody_writes)
    with pytest.raises(FileExistsError, match="not empty"):
        export(generator, tmp_path / "out", torch.float32)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["theirs"]
    assert not list(tmp_path.glob(".out*"))


def test_what_a_dtype_cannot_hold_is_refused(tmp_path: Path) -> None:
    model = random_model(LanguageModel)
    with torch.no_grad():
        model.get_parameter("body.blocks.0.fc1.weight")[3, 4] = -70_000.0
    checkpoint = write_checkpoint(tmp_path / "run", model)
    with pytest.raises(CheckpointError, match=r"fc1.weight .* reaches 70000, which fp16"):
        export(checkpoint, tmp_path / "out", torch.float16)
    assert nothing_left(tmp_path / "out")
    export(checkpoint, tmp_path / "out", torch.bfloat16)


def test_too_little_room_is_said_before_anything_is_written(
    generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Facts:
        f_frsize, f_bavail, f_files, f_favail = 1, 1000, 0, 0

    monkeypatch.setattr(os, "statvfs", lambda path: Facts)
    with pytest.raises(NoSpace, match="the export of .* takes about .* where 1,000 are free"):
        export(generator, tmp_path / "out", torch.float16)
    assert nothing_left(tmp_path / "out")
