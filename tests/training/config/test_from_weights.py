"""Settings of `model` that are left out come from the saved model that training starts from."""

import json
from pathlib import Path
from typing import Any

import pytest

from launch.plan import main as plan
from tests import small
from tests.training.models.families import FAMILIES, settings, shape
from training.config import TrainConfig, load, resolved
from training.config.from_weights import settings_beside
from training.config.model_json import SHAPE, config_of
from training.errors import ConfigError, UserError
from training.files import write_json

# https://huggingface.co/HuggingFaceTB/SmolLM2-360M
SMOLLM2: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 960,
    "initializer_range": 0.02,
    "intermediate_size": 2560,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 15,
    "num_hidden_layers": 32,
    "num_key_value_heads": 5,
    "rms_norm_eps": 1e-5,
    "rope_interleaved": False,
    "rope_scaling": None,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "vocab_size": 49152,
}


def _saved(folder: Path, content: dict[str, Any] = SMOLLM2) -> Path:
    folder.mkdir(exist_ok=True)
    write_json(folder / "config.json", content)
    return folder


def _loaded(tmp_path: Path, model: dict[str, Any], *overrides: str) -> TrainConfig:
    tree = resolved(small.config(tmp_path)) | {"model": model}
    write_json(tmp_path / "config.json", tree)
    return load(TrainConfig, [tmp_path / "config.json"], overrides)


@pytest.mark.parametrize("inner", ["", "huggingface"])
def test_the_shape_is_that_of_the_weights(tmp_path: Path, inner: str) -> None:
    source = tmp_path / "smollm2"
    (source / inner).mkdir(parents=True)
    _saved(source / inner)
    model = _loaded(tmp_path, {"initial_weights": str(source)}).model
    assert (model.architecture, model.hidden_size, model.num_key_value_heads) == ("llama", 960, 5)
    assert (model.head_dim, model.rotary_fraction, model.norm_eps) == (64, 1.0, 1e-5)
    assert model.embedding_is_head and model.rope_theta == 100000
    assert model.max_tokens == 8192


def test_a_setting_that_agrees_or_is_of_training_alone_may_stand(tmp_path: Path) -> None:
    source = str(_saved(tmp_path / "smollm2"))
    model = _loaded(
        tmp_path, {"initial_weights": source}, "model.num_layers=32", "model.max_tokens=1024"
    ).model
    assert (model.num_layers, model.max_tokens) == (32, 1024)


@pytest.mark.parametrize(
    "override", ["model.num_layers=24", "model.architecture=phi", "model.tied_head=false"]
)
def test_a_setting_that_contradicts_the_weights_is_refused(tmp_path: Path, override: str) -> None:
    source = str(_saved(tmp_path / "smollm2"))
    name = override.partition("=")[0]
    with pytest.raises(ConfigError, match=f"{name} = .* but model.initial_weights = .* has"):
        _loaded(tmp_path, {"initial_weights": source}, override)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "supported are phi, llama, qwen2, qwen3"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', only 'silu' is supported"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_type is 'yarn'"),
        ({"num_key_value_heads": 4}, "num_attention_heads = 15 is no multiple"),
        ({"mlp_bias": True}, "mlp_bias is True"),
    ],
)
def test_an_unsupported_model_is_named(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    source = str(_saved(tmp_path / "other", SMOLLM2 | change))
    with pytest.raises(UserError, match=message):
        _loaded(tmp_path, {"initial_weights": source})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("runs/a/checkpoints/step_3", r"there is no config\.json .* set model\.hidden_size"),
        ("owner/name", "model.initial_weights = 'owner/name' is no local path, and the hub does"),
    ],
)
def test_without_a_shape_the_file_has_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=message):
        _loaded(tmp_path, {"initial_weights": source})
    # A shape of its own is compared with the weights once they are read.
    assert _loaded(tmp_path, small.MODEL | {"initial_weights": source}).model.hidden_size == 32


def test_weights_that_are_not_there_yet_leave_the_settings(tmp_path: Path) -> None:
    later = str(tmp_path / "later" / "checkpoints" / "step_3")
    assert _loaded(tmp_path, small.MODEL | {"initial_weights": later}).model.hidden_size == 32


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", ["language_model", "verifier"])
def test_a_config_json_is_read_as_it_was_written(tmp_path: Path, family: str, head: Any) -> None:
    wanted = shape(family).settings()
    _saved(tmp_path / "model", config_of(wanted, head, "float32", end_token=2))
    found = settings_beside(str(tmp_path / "model"))
    assert found == {name: wanted[name] for name in (*SHAPE, "max_tokens")}


@pytest.mark.parametrize("named", ["folder", "config.json"])
def test_a_plan_takes_a_saved_models_shape(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], named: str
) -> None:
    folder = _saved(tmp_path / "smollm2")
    source = folder if named == "folder" else folder / "config.json"
    plan([str(source), "--world-size", "1", "training.device=cpu", "data.sequence_length=64"])
    assert "361,821,120" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tied_head": True}, "tied_head = True with architecture = 'phi'"),
        ({"num_key_value_heads": 2}, "num_key_value_heads = 2 with architecture = 'phi'"),
        ({"architecture": "llama", "rotary_fraction": 0.5}, "rotary_fraction = 0.5 with"),
        ({"architecture": "llama", "num_key_value_heads": 3}, "set num_key_value_heads to a div"),
        ({"layer_norm_eps": 1e-5}, "is now called model.norm_eps"),
        ({"architecture": "gpt2"}, "model.architecture"),
    ],
)
def test_settings_that_no_architecture_has_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        _loaded(tmp_path, settings("phi") | changes)


def test_tensor_parallelism_divides_the_heads_of_keys(tmp_path: Path) -> None:
    model = settings("qwen3", num_key_value_heads=1, max_tokens=256)
    with pytest.raises(ConfigError, match="model.num_key_value_heads = 1: each rank holds"):
        _loaded(tmp_path, json.loads(json.dumps(model)), "parallel.tensor=2")
