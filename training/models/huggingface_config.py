"""Translates a Phi model to Hugging Face's parameter names and `config.json`, and back.

    to_huggingface("body.blocks.3.fc1.bias", "language_model")   # model.layers.3.mlp.fc1.bias

Nothing here reads or writes files; `huggingface.py` does.
"""

import math
import re
from typing import Any

import torch

from training.config.values import HeadKind
from training.errors import CheckpointError
from training.models.phi import PhiShape

ARCHITECTURES: dict[str, HeadKind] = {
    "PhiForCausalLM": "language_model",
    "PhiForTokenClassification": "verifier",
}
_MOST = 1 << 24
"""Larger than any size in a real model."""
_HEADS: dict[HeadKind, str] = {"language_model": "lm_head", "verifier": "score"}
_BLOCK = {
    "norm": "input_layernorm",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "attention_output": "self_attn.dense",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}
_PLAIN = {
    "body.embedding": "model.embed_tokens",
    "body.final_norm": "model.final_layernorm",
}


def to_huggingface(name: str, kind: HeadKind) -> str:
    """Hugging Face's name of one of our parameters, such as `body.blocks.3.fc1.bias`.

    Raises:
        ValueError: no Phi model has such a parameter.
    """
    module, _, leaf = name.rpartition(".")
    if module == "head":
        return f"{_HEADS[kind]}.{leaf}"
    if module in _PLAIN:
        return f"{_PLAIN[module]}.{leaf}"
    matched = re.fullmatch(r"body\.blocks\.(\d+)\.(\w+)", module)
    if matched is None or matched[2] not in _BLOCK:
        raise ValueError(f"{name} is no parameter of a Phi {kind}")
    return f"model.layers.{matched[1]}.{_BLOCK[matched[2]]}.{leaf}"


def config_of(shape: PhiShape, kind: HeadKind, dtype: torch.dtype, end_token: int | None) -> Any:
    """The `config.json` of a model, as transformers writes and reads it."""
    head: dict[str, Any] = {}
    if kind == "verifier":
        head = {"id2label": {"0": "score"}, "label2id": {"score": 0}, "classifier_dropout": 0.0}
    return {
        "architectures": [name for name, named in ARCHITECTURES.items() if named == kind],
        "model_type": "phi",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.ffn_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_heads,
        "max_position_embeddings": shape.max_tokens,
        "hidden_act": "gelu_new",
        "layer_norm_eps": shape.layer_norm_eps,
        "initializer_range": shape.init_std,
        "resid_pdrop": shape.dropout,
        "embd_pdrop": 0.0,
        "attention_dropout": 0.0,
        "qk_layernorm": False,
        "tie_word_embeddings": False,
        "partial_rotary_factor": shape.rotary_fraction,
        "rope_theta": shape.rope_theta,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": shape.rope_theta,
            "partial_rotary_factor": shape.rotary_fraction,
        },
        "bos_token_id": end_token,
        "eos_token_id": end_token,
        "pad_token_id": None,
        "dtype": str(dtype).removeprefix("torch."),
        "torch_dtype": str(dtype).removeprefix("torch."),
        **head,
    }


def kind_of(config: dict[str, Any], where: str) -> HeadKind:
    """The kind of model (and so of head) that a `config.json` describes.

    Raises:
        CheckpointError: its architecture is neither of `ARCHITECTURES`.
    """
    named: Any = config.get("architectures") or ["PhiForCausalLM"]
    first = str(named[0]) if isinstance(named, list) else str(named)
    if first not in ARCHITECTURES:
        raise CheckpointError(
            f"{where}: architecture {first} is none of {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[first]


def shape_of(config: dict[str, Any], where: str) -> PhiShape:
    """The shape a `config.json` describes.

    Raises:
        CheckpointError: it is not a Phi model, it needs a feature that is not supported here, or a
            value is missing or impossible.
    """
    rope: Any = config.get("rope_parameters") or {}
    if not isinstance(rope, dict):
        raise CheckpointError(f"{where}: rope_parameters is {rope!r}, not a JSON object")
    heads = _count(config, "num_attention_heads", where)
    supported_values = {
        "model_type": (config.get("model_type"), "phi"),
        "hidden_act": (config.get("hidden_act", "gelu_new"), "gelu_new"),
        "qk_layernorm": (config.get("qk_layernorm", False), False),
        "tie_word_embeddings": (config.get("tie_word_embeddings", False), False),
        "rope_scaling": (config.get("rope_scaling"), None),
        "rope_type": (rope.get("rope_type", "default"), "default"),
        "num_key_value_heads": (config.get("num_key_value_heads") or heads, heads),
    }
    for name, (value, supported) in supported_values.items():
        if value != supported:
            raise CheckpointError(f"{where}: {name} is {value!r}, only {supported!r} is supported")
    shape = PhiShape(
        hidden_size=_count(config, "hidden_size", where),
        num_layers=_count(config, "num_hidden_layers", where),
        num_heads=heads,
        ffn_size=_count(config, "intermediate_size", where),
        vocab_size=_count(config, "vocab_size", where),
        max_tokens=_count(config, "max_position_embeddings", where),
        rotary_fraction=_number(
            {**config, **rope}, "partial_rotary_factor", 0.5, where, positive=True, at_most=1
        ),
        rope_theta=_number({**config, **rope}, "rope_theta", 10_000.0, where, positive=True),
        layer_norm_eps=_number(config, "layer_norm_eps", 1e-5, where, positive=True),
        init_std=_number(config, "initializer_range", 0.02, where),
        dropout=_number(config, "resid_pdrop", 0.0, where, at_most=1),
    )
    if shape.hidden_size % heads:
        raise CheckpointError(
            f"{where}: hidden_size = {shape.hidden_size} is no multiple of "
            f"num_attention_heads = {heads}"
        )
    return shape


def _count(config: dict[str, Any], name: str, where: str) -> int:
    if name not in config:
        raise CheckpointError(f"{where} has no {name!r}")
    value = config[name]
    if type(value) is not int or not 0 < value < _MOST:
        raise CheckpointError(f"{where}: {name} is {value!r}, not a positive whole number")
    return value


def _number(
    config: dict[str, Any],
    name: str,
    default: float,
    where: str,
    *,
    positive: bool = False,
    at_most: float = math.inf,
) -> float:
    value = config.get(name, default)
    if (
        type(value) not in (int, float)
        or not math.isfinite(value)
        or not 0 <= value <= at_most
        or (positive and not value)
    ):
        raise CheckpointError(f"{where}: {name} is {value!r}, not a number in its valid range")
    return value
