"""What the `config.json` of the bases in configs/bases/ says, in a cache of the hub."""

import json
from pathlib import Path
from typing import Any

from tests.hub_cache import lay_out

_LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "rms_norm_eps": 1e-5,
}
_SMOLLM2: dict[str, Any] = _LLAMA | {
    "max_position_embeddings": 8192,
    "rope_theta": 100000,
    "rope_scaling": None,
    "tie_word_embeddings": True,
    "vocab_size": 49152,
}
_QWEN: dict[str, Any] = {
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
_QWEN2 = _QWEN | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
_QWEN3 = _QWEN | {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "head_dim": 128,
}


def _sizes(hidden: int, layers: int, heads: int, key_value_heads: int, ffn: int) -> dict[str, int]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
        "intermediate_size": ffn,
    }


BASES: dict[str, dict[str, Any]] = {
    "HuggingFaceTB/SmolLM2-135M": _SMOLLM2 | _sizes(576, 30, 9, 3, 1536),
    "HuggingFaceTB/SmolLM2-360M": _SMOLLM2 | _sizes(960, 32, 15, 5, 2560),
    "HuggingFaceTB/SmolLM2-1.7B": _SMOLLM2
    | _sizes(2048, 24, 32, 32, 8192)
    | {"rope_theta": 130000},
    "meta-llama/Llama-3.2-1B": _LLAMA
    | _sizes(2048, 16, 32, 8, 8192)
    | {
        "head_dim": 64,
        "max_position_embeddings": 131072,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        "tie_word_embeddings": True,
        "vocab_size": 128256,
    },
    "TinyLlama/TinyLlama_v1.1": _LLAMA
    | _sizes(2048, 22, 32, 4, 5632)
    | {
        "max_position_embeddings": 2048,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "vocab_size": 32000,
    },
    "Qwen/Qwen2.5-0.5B": _QWEN2 | _sizes(896, 24, 14, 2, 4864),
    "Qwen/Qwen2.5-1.5B": _QWEN2 | _sizes(1536, 28, 12, 2, 8960),
    "Qwen/Qwen3-0.6B-Base": _QWEN3 | _sizes(1024, 28, 16, 8, 3072),
    "Qwen/Qwen3-1.7B-Base": _QWEN3 | _sizes(2048, 28, 16, 8, 6144),
}
"""By hub id; the keys that decide shape and arithmetic."""


def lay_out_bases(home: Path) -> None:
    """Put all of them into the cache of the hub below `home`, which `HF_HOME` names."""
    for repository, config in BASES.items():
        content = json.dumps(config).encode()
        lay_out(home, repository, {"config.json": content}, kind="models")
