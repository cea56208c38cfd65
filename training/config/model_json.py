"""The settings of `model` as Hugging Face's `config.json`, and back.

    settings_of(config, "path/config.json")     # {"architecture": "llama", "hidden_size": 576, ...}
    config_of(settings, head="language_model", ...)

Nothing here reads or writes files.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from training.config.values import ArchitectureName, HeadKind
from training.errors import CheckpointError

_MOST = 1 << 24
"""Larger than any size in a real model."""


@dataclass(frozen=True, kw_only=True)
class _Format:
    """What differs between the `config.json` of architectures."""

    prefix: str
    """Of the names of transformers' classes."""
    norm_eps: str
    """The key of `norm_eps`."""
    fixed: Mapping[str, Any]
    """Keys that have one value in every model that is supported; absent is the same."""
    head_dim: bool = True
    """Whether `head_dim` may differ from the hidden size divided by the heads."""

    def class_of(self, head: HeadKind) -> str:
        """transformers' class of a model with this head."""
        return self.prefix + _HEADS[head]


_HEADS: Mapping[HeadKind, str] = {
    "language_model": "ForCausalLM",
    "verifier": "ForSequenceClassification",
}
_FORMATS: Mapping[ArchitectureName, _Format] = {
    "phi": _Format(
        prefix="Phi",
        norm_eps="layer_norm_eps",
        fixed={
            "hidden_act": "gelu_new",
            "qk_layernorm": False,
            "embd_pdrop": 0.0,
            "attention_dropout": 0.0,
        },
        head_dim=False,
    ),
    "llama": _Format(
        prefix="Llama",
        norm_eps="rms_norm_eps",
        fixed={
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "attention_dropout": 0.0,
            "pretraining_tp": 1,
        },
    ),
    "qwen2": _Format(
        prefix="Qwen2",
        norm_eps="rms_norm_eps",
        fixed={"hidden_act": "silu", "use_sliding_window": False, "attention_dropout": 0.0},
        head_dim=False,
    ),
    "qwen3": _Format(
        prefix="Qwen3",
        norm_eps="rms_norm_eps",
        fixed={
            "hidden_act": "silu",
            "use_sliding_window": False,
            "attention_bias": False,
            "attention_dropout": 0.0,
        },
    ),
}
SHAPE = (
    "architecture",
    "hidden_size",
    "num_layers",
    "num_heads",
    "num_key_value_heads",
    "head_dim",
    "ffn_size",
    "vocab_size",
    "rotary_fraction",
    "rope_theta",
    "rope_scaling",
    "norm_eps",
    "tied_head",
)
"""The settings that weights are made for: with others they give other numbers, or do not fit."""


def class_of(architecture: ArchitectureName, head: HeadKind) -> str:
    """transformers' class of a model."""
    return _FORMATS[architecture].class_of(head)


def head_of(config: Mapping[str, Any], where: str) -> HeadKind:
    """The kind of head that a `config.json` describes.

    Raises:
        CheckpointError: its architecture is none that is supported.
    """
    format_ = _FORMATS[_architecture(config, where)]
    named: Any = config.get("architectures") or [format_.class_of("language_model")]
    first = str(named[0]) if isinstance(named, list) else str(named)
    for head in _HEADS:
        if first == format_.class_of(head):
            return head
    known = ", ".join(format_.class_of(head) for head in _HEADS)
    raise CheckpointError(f"{where}: architecture {first} is none of {known}")


def settings_of(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The settings of `model` that a `config.json` describes: `SHAPE` and a few more.

    Args:
        config: The file's content.
        where: Its path, for messages.

    Raises:
        CheckpointError: it is of no supported architecture, it needs a feature that is not
            supported here, or a value is missing or impossible.
    """
    architecture = _architecture(config, where)
    format_ = _FORMATS[architecture]
    is_phi = architecture == "phi"
    rope = _rope(config, where)
    for name, supported in format_.fixed.items():
        if (value := config.get(name, supported)) not in (supported, None):
            raise CheckpointError(f"{where}: {name} is {value!r}, only {supported!r} is supported")
    heads = _count(config, "num_attention_heads", where)
    settings: dict[str, Any] = {
        "architecture": architecture,
        "hidden_size": _count(config, "hidden_size", where),
        "num_layers": _count(config, "num_hidden_layers", where),
        "num_heads": heads,
        "num_key_value_heads": heads,
        "ffn_size": _count(config, "intermediate_size", where),
        "vocab_size": _count(config, "vocab_size", where),
        "max_tokens": _count(config, "max_position_embeddings", where),
        "rotary_fraction": _number(
            rope,
            "partial_rotary_factor",
            0.5 if is_phi else 1.0,
            where,
            positive=True,
            at_most=1,
        ),
        "rope_theta": _number(rope, "rope_theta", 10_000.0, where, positive=True),
        "rope_scaling": _scaling(rope, where),
        "norm_eps": _number(
            config, format_.norm_eps, 1e-5 if is_phi else 1e-6, where, positive=True
        ),
        "tied_head": _switch(config, "tie_word_embeddings", where),
        "init_std": _number(config, "initializer_range", 0.02, where),
        "dropout": _number(config, "resid_pdrop", 0.0, where, at_most=1),
    }
    if config.get("num_key_value_heads") is not None:
        settings["num_key_value_heads"] = _count(config, "num_key_value_heads", where)
    if config.get("head_dim") is not None:
        settings["head_dim"] = _count(config, "head_dim", where)
    elif settings["hidden_size"] % heads:
        raise CheckpointError(
            f"{where}: hidden_size = {settings['hidden_size']} is no multiple of "
            f"num_attention_heads = {heads}"
        )
    else:
        settings["head_dim"] = settings["hidden_size"] // heads
    _refuse_unsupported(settings, format_, where)
    return settings


def _refuse_unsupported(settings: Mapping[str, Any], format_: _Format, where: str) -> None:
    heads, hidden = settings["num_heads"], settings["hidden_size"]
    if heads % settings["num_key_value_heads"]:
        raise CheckpointError(
            f"{where}: num_attention_heads = {heads} is no multiple of num_key_value_heads = "
            f"{settings['num_key_value_heads']}"
        )
    supported: dict[str, Any] = {"rotary_fraction": 1.0}
    if settings["architecture"] == "phi":
        supported = {"num_key_value_heads": heads, "rope_scaling": None, "tied_head": False}
    if not format_.head_dim:
        supported["head_dim"] = hidden // heads
    for name, value in supported.items():
        if settings[name] != value:
            key = {"tied_head": "tie_word_embeddings", "rotary_fraction": "partial_rotary_factor"}
            raise CheckpointError(
                f"{where}: {key.get(name, name)} is {settings[name]!r}, only {value!r} is supported"
            )


def config_of(
    settings: Mapping[str, Any],
    head: HeadKind,
    dtype: str,
    *,
    end_token: int | None,
    pad_token: int | None = None,
) -> dict[str, Any]:
    """The `config.json` of a model, as transformers writes and reads it.

    Args:
        settings: Those that `settings_of` gives.
        head: Of the model.
        dtype: Of the weights, as `float32`.
        end_token: The id after which sampling ends.
        pad_token: The id that a sequence classifier takes for padding; left out where the
            embedding has no row for it.
    """
    if pad_token is not None and pad_token >= settings["vocab_size"]:
        pad_token = None
    format_ = _FORMATS[settings["architecture"]]
    is_phi = settings["architecture"] == "phi"
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": settings["rope_theta"]}
    if is_phi:
        rope["partial_rotary_factor"] = settings["rotary_fraction"]
    if scaling := settings["rope_scaling"]:
        rope |= {
            "rope_type": "llama3",
            "factor": scaling["factor"],
            "low_freq_factor": scaling["low_freq_factor"],
            "high_freq_factor": scaling["high_freq_factor"],
            "original_max_position_embeddings": scaling["original_max_tokens"],
        }
    made: dict[str, Any] = {
        "architectures": [format_.class_of(head)],
        "model_type": settings["architecture"],
        "vocab_size": settings["vocab_size"],
        "hidden_size": settings["hidden_size"],
        "intermediate_size": settings["ffn_size"],
        "num_hidden_layers": settings["num_layers"],
        "num_attention_heads": settings["num_heads"],
        "num_key_value_heads": settings["num_key_value_heads"],
        "max_position_embeddings": settings["max_tokens"],
        format_.norm_eps: settings["norm_eps"],
        "initializer_range": settings["init_std"],
        "tie_word_embeddings": settings["tied_head"],
        **format_.fixed,
        # transformers 5 reads `rope_parameters`, versions before it the other keys.
        "rope_parameters": rope,
        "rope_theta": settings["rope_theta"],
        **({"rope_scaling": rope} if scaling else {}),
        "bos_token_id": end_token,
        "eos_token_id": end_token,
        "pad_token_id": pad_token,
        "dtype": dtype,
        "torch_dtype": dtype,
    }
    if is_phi:
        made |= {
            "resid_pdrop": settings["dropout"],
            "partial_rotary_factor": settings["rotary_fraction"],
        }
    if format_.head_dim:
        made["head_dim"] = settings["head_dim"]
    if head == "verifier":
        made |= {"id2label": {"0": "score"}, "label2id": {"score": 0}, "num_labels": 1}
    return made


def _architecture(config: Mapping[str, Any], where: str) -> ArchitectureName:
    found = config.get("model_type")
    if found not in _FORMATS:
        raise CheckpointError(
            f"{where}: model_type is {found!r}; supported are {', '.join(_FORMATS)}"
        )
    return cast(ArchitectureName, found)


def _rope(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Rotary settings, from wherever a version of transformers has written them."""
    found: dict[str, Any] = dict(config)
    for name in ("rope_scaling", "rope_parameters"):
        part: Any = config.get(name) or {}
        if not isinstance(part, dict):
            raise CheckpointError(f"{where}: {name} is {part!r}, not a JSON object")
        found |= cast("dict[str, Any]", part)
    return found


def _scaling(rope: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise CheckpointError(
            f"{where}: rope_type is {kind!r}, only 'default' and 'llama3' are supported"
        )
    return {
        "factor": _number(rope, "factor", None, where, positive=True),
        "low_freq_factor": _number(rope, "low_freq_factor", None, where, positive=True),
        "high_freq_factor": _number(rope, "high_freq_factor", None, where, positive=True),
        "original_max_tokens": _count(rope, "original_max_position_embeddings", where),
    }


def _count(config: Mapping[str, Any], name: str, where: str) -> int:
    if name not in config:
        raise CheckpointError(f"{where} has no {name!r}")
    value = config[name]
    if type(value) is not int or not 0 < value < _MOST:
        raise CheckpointError(f"{where}: {name} is {value!r}, not a positive whole number")
    return value


def _switch(config: Mapping[str, Any], name: str, where: str) -> bool:
    value = config.get(name, False)
    if not isinstance(value, bool):
        raise CheckpointError(f"{where}: {name} is {value!r}, neither true nor false")
    return value


def _number(
    config: Mapping[str, Any],
    name: str,
    default: float | None,
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
