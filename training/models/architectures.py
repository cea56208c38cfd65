"""The architectures: the block and the norm of each, and its modules' names on the hub.

What differs in `config.json` is in training/config/model_json.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from training.config.values import ArchitectureName
from training.models import llama, phi, qwen
from training.models.parts import Block
from training.models.shape import ModelShape


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What the body of a model is made of."""

    block: Callable[[ModelShape, int], Block]
    """From the shape and the block's number in the whole model."""
    norm: Callable[[ModelShape], nn.Module]
    """Of the last hidden states."""
    head_bias: bool
    """Whether the language-model head has a bias."""
    names: Mapping[str, str]
    """Hugging Face's name of each module; `*` is a block's number."""


ARCHITECTURES: Mapping[ArchitectureName, Architecture] = {
    "phi": Architecture(block=phi.PhiBlock, norm=phi.phi_norm, head_bias=True, names=phi.NAMES),
    "llama": Architecture(
        block=llama.LlamaBlock, norm=llama.llama_norm, head_bias=False, names=llama.NAMES
    ),
    "qwen2": Architecture(
        block=qwen.Qwen2Block, norm=llama.llama_norm, head_bias=False, names=qwen.QWEN2_NAMES
    ),
    "qwen3": Architecture(
        block=qwen.Qwen3Block, norm=llama.llama_norm, head_bias=False, names=qwen.QWEN3_NAMES
    ),
}
