"""The torch dtype of each precision that a config may name."""

from collections.abc import Mapping

import torch

from training.config.values import Precision

DTYPES: Mapping[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def name_of(dtype: torch.dtype) -> Precision:
    """What configs call a dtype."""
    return next(name for name, named in DTYPES.items() if named == dtype)
