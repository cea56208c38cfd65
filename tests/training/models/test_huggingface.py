"""Hugging Face folders, both ways, against transformers itself."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PhiConfig,
    PhiForCausalLM,
    PhiForSequenceClassification,
)

from tests.initial_values import initialise
from training.errors import CheckpointError, UserError
from training.models import huggingface
from training.models.attention import causal_attention
from training.models.heads import LanguageModel, Verifier
from training.models.shape import ModelShape

SHAPE = ModelShape(
    hidden_size=32,
    num_layers=2,
    num_heads=2,
    ffn_size=80,
    vocab_size=67,
    max_tokens=64,
    rotary_fraction=0.25,
    rope_theta=500.0,
    norm_eps=1e-4,
)
TOKENS = torch.randint(0, 67, (3, 11), generator=torch.Generator().manual_seed(1))
POSITIONS = torch.arange(11).expand(3, 11)
TOLERANCE = 1e-5


def randomise(model: torch.nn.Module) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)


def their_config() -> PhiConfig:
    return PhiConfig(
        vocab_size=67,
        hidden_size=32,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        layer_norm_eps=1e-4,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 500.0,
            "partial_rotary_factor": 0.25,
        },
    )


@pytest.fixture
def their_folder(tmp_path: Path) -> Path:
    theirs = PhiForCausalLM(their_config())
    randomise(theirs)
    theirs.save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


@pytest.mark.parametrize("max_shard_bytes", [4 << 30, 20_000])
def test_saved_generator_loads_in_transformers(tmp_path: Path, max_shard_bytes: int) -> None:
    model = LanguageModel(SHAPE)
    randomise(model)
    folder = tmp_path / "ours"
    huggingface.save(model, folder, end_token=66, max_shard_bytes=max_shard_bytes)
    assert (len(list(folder.glob("*.safetensors"))) > 1) == (max_shard_bytes == 20_000)
    assert not list(folder.glob("*.tmp"))
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    assert isinstance(theirs, PhiForCausalLM)
    assert theirs.config.eos_token_id == 66
    torch.testing.assert_close(
        theirs.eval()(TOKENS).logits,
        model(TOKENS, POSITIONS, causal_attention),
        atol=TOLERANCE,
        rtol=0,
    )
    again = huggingface.load_language_model(folder)
    assert again.shape == SHAPE
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name)), name


@pytest.mark.parametrize("max_shard_size", ["5GB", "20KB"])
def test_loads_what_transformers_saved(tmp_path: Path, max_shard_size: str) -> None:
    theirs = PhiForCausalLM(their_config()).eval()
    randomise(theirs)
    theirs.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    assert (tmp_path / "model.safetensors.index.json").exists() == (max_shard_size == "20KB")
    ours = huggingface.load_language_model(tmp_path)
    torch.testing.assert_close(
        ours(TOKENS, POSITIONS, causal_attention), theirs(TOKENS).logits, atol=TOLERANCE, rtol=0
    )


def test_verifier_round_trip_with_transformers(tmp_path: Path) -> None:
    verifier = Verifier(SHAPE)
    randomise(verifier)
    huggingface.save(verifier, tmp_path / "ours")
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "ours").eval()
    assert isinstance(theirs, PhiForSequenceClassification)
    assert theirs.config.num_labels == 1
    scores = verifier(TOKENS, POSITIONS, causal_attention)
    found = theirs(TOKENS[:1]).logits[0]
    torch.testing.assert_close(found, scores[0, -1:], atol=TOLERANCE, rtol=0)
    theirs.save_pretrained(tmp_path / "theirs")
    again = huggingface.load_verifier(tmp_path / "theirs")
    assert torch.equal(again(TOKENS, POSITIONS, causal_attention), scores)


def test_verifier_starts_from_a_generator(their_folder: Path) -> None:
    generator = huggingface.load_language_model(their_folder)
    verifier = huggingface.load_verifier(their_folder, seed=7)
    for name, parameter in generator.body.named_parameters():
        assert torch.equal(parameter, verifier.body.get_parameter(name)), name
    fresh = Verifier(verifier.shape)
    initialise(fresh, seed=7, std=verifier.shape.init_std)
    assert torch.equal(verifier.head.weight, fresh.head.weight)


def test_generator_refuses_a_verifier_folder(tmp_path: Path) -> None:
    huggingface.save(Verifier(SHAPE), tmp_path)
    with pytest.raises(ValueError, match=r"lm_head.weight \[67, 32\] is missing.*score.weight"):
        huggingface.load_language_model(tmp_path)


def test_dtype_is_cast_and_said(tmp_path: Path) -> None:
    huggingface.save(LanguageModel(SHAPE), tmp_path, dtype=torch.bfloat16)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    assert AutoModelForCausalLM.from_pretrained(tmp_path).dtype == torch.bfloat16
    model = huggingface.load_language_model(tmp_path, dtype=torch.float32)
    assert model.head.weight.dtype == torch.float32


def test_wrong_tensors_are_named_in_one_error(their_folder: Path) -> None:
    path = their_folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.0.mlp.fc1.weight"] = torch.zeros(81, 32)
    del tensors["model.layers.1.self_attn.dense.bias"]
    tensors["model.extra"] = torch.zeros(2)
    save_file(tensors, path)
    with pytest.raises(ValueError) as raised:
        huggingface.load_language_model(their_folder)
    message = str(raised.value)
    assert "model.layers.0.mlp.fc1.weight is [81, 32], the model's is [80, 32]" in message
    assert "model.layers.1.self_attn.dense.bias [32] is missing" in message
    assert "model.extra [2] is unexpected" in message


def test_other_arithmetic_is_refused(their_folder: Path) -> None:
    model = LanguageModel(replace(SHAPE, num_heads=4, rotary_fraction=0.5))
    with pytest.raises(ValueError, match="num_heads = 2, the model to load it into 4"):
        huggingface.load(model, their_folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "gpt2"),
        ("hidden_act", "silu"),
        ("qk_layernorm", True),
        ("tie_word_embeddings", True),
        ("num_key_value_heads", 1),
    ],
)
def test_foreign_models_are_refused(their_folder: Path, key: str, value: object) -> None:
    path = their_folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(ValueError, match=key):
        huggingface.load_language_model(their_folder)


def test_missing_and_damaged_folders_say_so(their_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no model folder"):
        huggingface.load_language_model(tmp_path / "nowhere")
    (their_folder / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(ValueError, match="damaged safetensors"):
        huggingface.load_language_model(their_folder)
    (their_folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no model.safetensors"):
        huggingface.load_language_model(their_folder)
    (their_folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="no config.json"):
        huggingface.load_language_model(their_folder)


def test_index_cannot_point_outside_its_folder(their_folder: Path) -> None:
    index = {"weight_map": {"lm_head.weight": "../../elsewhere.safetensors"}}
    (their_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="outside its folder"):
        huggingface.load_language_model(their_folder)


def test_hub_id_is_downloaded_without_code(
    their_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, list[str]]] = []

    def download(repo: str, *, allow_patterns: list[str]) -> str:
        asked.append((repo, allow_patterns))
        return str(their_folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    huggingface.load_language_model("microsoft/phi-1_5")
    assert asked[0][0] == "microsoft/phi-1_5"
    assert not any(pattern.endswith((".py", ".bin", ".pt")) for pattern in asked[0][1])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("hidden_size", "32", "hidden_size is '32', not a positive whole number"),
        ("hidden_size", 0, "hidden_size is 0"),
        ("hidden_size", True, "hidden_size is True"),
        ("num_attention_heads", 3, "hidden_size = 32 is no multiple of num_attention_heads = 3"),
        ("num_hidden_layers", 10**6, "num_hidden_layers = 1,000,000, the weights beside it are"),
        ("vocab_size", 10**30, "vocab_size is 10"),
        ("max_position_embeddings", None, "max_position_embeddings is None"),
        ("layer_norm_eps", 0, "layer_norm_eps is 0"),
        ("layer_norm_eps", float("nan"), "layer_norm_eps is nan"),
        ("initializer_range", "wide", "initializer_range is 'wide'"),
        ("resid_pdrop", 1.5, "resid_pdrop is 1.5"),
        ("rope_parameters", ["default"], "rope_parameters is .*, not a JSON object"),
        ("rope_parameters", {"rope_theta": -1.0}, "rope_theta is -1.0"),
        ("architectures", [{}], "architecture {} is none of"),
        ("architectures", 3, "architecture 3 is none of"),
    ],
)
def test_a_config_that_no_model_has_is_refused(
    their_folder: Path, key: str, value: object, message: str
) -> None:
    path = their_folder / "config.json"
    config = json.loads(path.read_text()) | {"num_key_value_heads": None, key: value}
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        huggingface.load_language_model(their_folder)


@pytest.mark.parametrize("content", ["[]", "{", "null", '"phi"'])
def test_a_config_that_is_no_object_is_named(their_folder: Path, content: str) -> None:
    (their_folder / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json (holds|is not valid JSON)"):
        huggingface.WeightFolder(their_folder)


@pytest.mark.parametrize("content", ["[]", "{", "{}", '{"weight_map": 3}', '{"weight_map": []}'])
def test_an_index_that_is_none_is_named(their_folder: Path, content: str) -> None:
    (their_folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(UserError, match=r"index\.json "):
        huggingface.WeightFolder(their_folder)


def test_weights_that_are_whole_numbers_are_refused(their_folder: Path) -> None:
    path = their_folder / "model.safetensors"
    tensors = load_file(path)
    tensors["lm_head.bias"] = tensors["lm_head.bias"].to(torch.int64)
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match="lm_head.bias is of dtype I64"):
        huggingface.WeightFolder(their_folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_are_not_finite_are_refused(
    their_folder: Path, value: float, dtype: torch.dtype
) -> None:
    path = their_folder / "model.safetensors"
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(path).items()}
    tensors["lm_head.weight"][1, 2] = value
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"theirs: lm_head\.weight holds NaN or infinity"):
        huggingface.load_language_model(their_folder)
