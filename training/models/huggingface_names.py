"""Translates the names of parameters to Hugging Face's.

to_huggingface("body.blocks.3.fc1.bias", shape, "language_model")  # model.layers.3.mlp.fc1.bias
"""

import re

from training.config.values import HeadKind
from training.models.architectures import ARCHITECTURES
from training.models.shape import ModelShape

HEADS: dict[HeadKind, str] = {"language_model": "lm_head", "verifier": "score"}
"""Hugging Face's name of each head."""


def to_huggingface(name: str, shape: ModelShape, kind: HeadKind) -> str:
    """Hugging Face's name of one of our parameters.

    Raises:
        ValueError: the architecture has no such parameter.
    """
    module, _, leaf = name.rpartition(".")
    if module == "head":
        return f"{HEADS[kind]}.{leaf}"
    number = re.search(r"(?<=\.)\d+(?=\.)", module)
    pattern = module if number is None else module.replace(number[0], "*", 1)
    theirs = ARCHITECTURES[shape.architecture].names.get(pattern)
    if theirs is None:
        raise ValueError(f"{name} is no parameter of a {shape.architecture} {kind}")
    return f"{theirs.replace('*', number[0]) if number else theirs}.{leaf}"
