from pathlib import Path

import pytest
import torch

from tests.training.evaluation import models
from training.config import ConfigError
from training.evaluation import load
from training.models.build import WEIGHTS

CPU = torch.device("cpu")


def test_names_are_short_where_they_can_be():
    assert load.names(["runs/a/step_1", "runs/a/step_2/"]) == ["step_1", "step_2"]
    assert load.names(["runs/a/step_1", "runs/b/step_1"]) == ["runs/a/step_1", "runs/b/step_1"]
    assert load.names([f"runs/a/step_1/{WEIGHTS}", "microsoft/phi-1_5"]) == ["step_1", "phi-1_5"]


def test_a_checkpoint_is_loaded_from_the_weights_within(tmp_path: Path):
    models.write_generator(tmp_path / "step_3" / WEIGHTS)
    model, tokenizer = load.load_generator(str(tmp_path / "step_3"), CPU)
    assert not model.training and model.head.weight.dtype == torch.float32
    assert torch.equal(model.head.weight, models.generator().head.weight)
    assert tokenizer.fingerprint == models.tokenizer().fingerprint
    assert load.fingerprint(str(tmp_path / "step_3")) == load.fingerprint(
        str(tmp_path / "step_3" / WEIGHTS)
    )


def test_what_cannot_be_used_says_why(tmp_path: Path):
    generator = models.write_generator(tmp_path / "generator")
    with pytest.raises(ConfigError, match="holds a generator, not a verifier"):
        load.load_verifier(str(generator), CPU)
    verifier = models.write_verifier(tmp_path / "verifier")
    with pytest.raises(ConfigError, match="holds a verifier, not a generator"):
        load.load_generator(str(verifier), CPU)
    (generator / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match="holds no tokenizer"):
        load.load_generator(str(generator), CPU)
    (verifier / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="damaged safetensors"):
        load.load_verifier(str(verifier), CPU)
    with pytest.raises(FileNotFoundError, match="nothing/here/at/all"):
        load.load_generator("nothing/here/at/all", CPU)
