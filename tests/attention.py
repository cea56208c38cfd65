"""Packed attention of documents that a test states by their ids."""

import torch
from torch import Tensor

from training.data.micro_batch import borders_of
from training.models.attention import PackedAttention


def packed(document_ids: Tensor, device: str | torch.device | None = None) -> PackedAttention:
    """Attention within these documents, `[sequences, tokens]` on the CPU."""
    borders = borders_of(document_ids).to(device or "cpu")
    return PackedAttention(borders, longest=document_ids.shape[1])
