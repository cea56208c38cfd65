import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from checkpoints.export import export
from parallel.ranks import ALONE, Ranks
from tests.checkpoints.exporting import random_model, write_checkpoint
from tests.ranks import run_distributed
from tests.training.evaluation import models
from training import verification
from training.errors import DamagedFileError, UserError
from training.evaluation import load
from training.models.build import WEIGHTS
from training.models.heads import LanguageModel

CPU = torch.device("cpu")


def test_names_are_short_where_they_can_be():
    assert load.names(["runs/a/step_1", "runs/a/step_2/"]) == ["step_1", "step_2"]
    assert load.names(["runs/a/step_1", "runs/b/step_1"]) == ["runs/a/step_1", "runs/b/step_1"]
    assert load.names([f"runs/a/step_1/{WEIGHTS}", "microsoft/phi-1_5"]) == ["step_1", "phi-1_5"]


def test_a_checkpoint_is_loaded_from_the_weights_within(tmp_path: Path):
    step = write_checkpoint(tmp_path, random_model(LanguageModel))
    model, tokenizer = load.load_generator(str(step), CPU)
    assert not model.training and model.head.weight.dtype == torch.float32
    assert torch.equal(model.head.weight, models.generator().head.weight.bfloat16().float())
    assert tokenizer.fingerprint == models.tokenizer().fingerprint
    # Worked out from the manifest for the one, from the files for the other.
    shutil.copytree(step / WEIGHTS, tmp_path / "copy")
    assert load.fingerprint(str(step)) == load.fingerprint(str(tmp_path / "copy"))
    assert load.fingerprint(str(step)) == load.fingerprint(str(step / WEIGHTS))
    for source in (step, step / WEIGHTS, tmp_path / "copy"):
        load.check([(str(source), "language_model"), ("", "verifier")], ALONE)


def _flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def _change_config(path: Path) -> None:
    path.write_text(path.read_text().replace("10000.0", "10001.0"))


def _change_token(path: Path) -> None:
    path.write_text(path.read_text().replace('"clean_up_tokenization_spaces": false', '"a": 1'))


HARMS: dict[str, Callable[[Path], None]] = {
    "model.safetensors": _flip,
    "config.json": _change_config,
    "tokenizer.json": _flip,
    "tokenizer_config.json": _change_token,
}


@pytest.mark.parametrize("name", HARMS)
@pytest.mark.parametrize("below", ["", WEIGHTS])
def test_a_checkpoint_whose_files_changed_is_refused(tmp_path: Path, name: str, below: str):
    step = write_checkpoint(tmp_path, random_model(LanguageModel))
    HARMS[name](step / WEIGHTS / name)
    wanted = f"step_2 is damaged: {WEIGHTS}/{name} has "
    with pytest.raises(UserError, match=wanted):
        load.check([(str(step / below), "language_model")], ALONE)
    if name != "model.safetensors":  # small files are compared whoever reads them
        with pytest.raises(UserError, match=wanted):
            load.load_generator(str(step / below), CPU)


@pytest.mark.parametrize("name", HARMS)
def test_an_exported_folder_that_changed_is_refused(tmp_path: Path, name: str):
    step = write_checkpoint(tmp_path, random_model(LanguageModel))
    export(step, tmp_path / "out", torch.float32)
    load.check([(str(tmp_path / "out"), "language_model")], ALONE)
    HARMS[name](tmp_path / "out" / name)
    with pytest.raises(UserError, match=f"out is damaged: {name} has "):
        load.check([(str(tmp_path / "out"), "language_model")], ALONE)


def test_a_checkpoint_without_its_manifest_is_none(tmp_path: Path):
    step = write_checkpoint(tmp_path, random_model(LanguageModel))
    (step / "train_state.json").write_text("{}")
    (step / "manifest.json").rename(tmp_path / "manifest.json")
    for source in (step, step / WEIGHTS):
        with pytest.raises(UserError, match="step_2 is not a complete checkpoint"):
            load.load_generator(str(source), CPU)
    (step / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="manifest.json is damaged: its outputs"):
        load.load_generator(str(step), CPU)


def test_files_that_training_did_not_write_are_not_read(tmp_path: Path):
    step = write_checkpoint(tmp_path, random_model(LanguageModel))
    index = step / WEIGHTS / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "other.safetensors"}}')
    with pytest.raises(UserError, match="index.json is in no manifest"):
        load.load_generator(str(step), CPU)


def _verified(ranks: Ranks, step: Path) -> tuple[str, list[str]]:
    """The error of a damaged checkpoint, or nothing; the files that this rank hashed."""
    hashed: list[str] = []
    sha256_file = verification.sha256_file

    def recording(path: Path) -> str:
        hashed.append(path.name)
        return sha256_file(path)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(verification, "sha256_file", recording)
        try:
            load.verify(str(step), ranks)
        except DamagedFileError as error:
            return str(error), hashed
    return "", hashed


@pytest.mark.parametrize("harmed", [False, True])
def test_ranks_share_the_files_and_agree(tmp_path: Path, harmed: bool):
    step = write_checkpoint(tmp_path, random_model(LanguageModel))
    if harmed:
        _flip(step / WEIGHTS / "model.safetensors")
    errors, hashed = zip(*run_distributed(_verified, 2, step, timeout=120), strict=True)
    assert errors[0] == errors[1]
    assert ("is damaged:" in errors[0]) == harmed and bool(errors[0]) == harmed
    assert [*hashed[0], *hashed[1]].count("model.safetensors") == 1


def test_what_cannot_be_used_says_why(tmp_path: Path):
    generator = models.write_generator(tmp_path / "generator")
    with pytest.raises(UserError, match="holds a generator, not a verifier"):
        load.load_verifier(str(generator), CPU)
    verifier = models.write_verifier(tmp_path / "verifier")
    with pytest.raises(UserError, match="holds a verifier, not a generator"):
        load.load_generator(str(verifier), CPU)
    (generator / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="holds no tokenizer"):
        load.load_generator(str(generator), CPU)
    (verifier / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="damaged safetensors"):
        load.load_verifier(str(verifier), CPU)
    with pytest.raises(FileNotFoundError, match="nothing/here/at/all"):
        load.load_generator("nothing/here/at/all", CPU)
