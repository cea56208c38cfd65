"""Computes causal attention in training and scoring, within each packed document.

Every layer calls it with `[sequences, tokens, heads, head_dim]` tensors. `PackedAttention` is
built once per micro-batch and holds the borders of documents, which all layers use:

    hidden = body(tokens, positions, PackedAttention(document_ids))

`causal_attention` takes each whole sequence as one document. Attention over a cache of keys and
values, for sampling, is in `cache.py`.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@functools.cache
def _variable_length_kernel() -> tuple[Callable[..., Any], dict[str, Any]]:
    """torch's kernel and its arguments for causal attention; slow to import, used on GPUs only."""
    from torch.nn.attention.varlen import varlen_attn

    # torch 2.10 has `is_causal`; later versions have a window instead.
    if "window_size" in inspect.signature(varlen_attn).parameters:
        return varlen_attn, {"window_size": (-1, 0)}
    return varlen_attn, {"is_causal": True}


def causal_attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention over whole sequences of one document each, with any padding on the right."""
    return F.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), is_causal=True
    ).transpose(1, 2)


class PackedAttention:
    """Causal attention that stops at the borders of the documents packed into a sequence.

    On CUDA in bf16 or fp16 it is torch's variable-length flash attention over all tokens at
    once. Elsewhere it is one causal call per document on views of the packed tensors, the fastest
    way on a CPU: with 512-token sequences of 130-token documents, forward and backward took a
    third of the time of a block-diagonal mask and three quarters of that of documents batched by
    length.

    Padding (id -1) is a document of its own at the end of a sequence: no other token attends to
    it, and it attends only to itself.
    """

    def __init__(self, document_ids: Tensor, device: torch.device | str | None = None) -> None:
        """Find the borders.

        Args:
            document_ids: `[sequences, tokens]` integers, constant over each document and
                different in adjacent documents; -1 in the padding. Best on the CPU: the lengths
                are read there, and the host would wait for a GPU.
            device: the model's device, if it is not that of `document_ids`.
        """
        starts = torch.ones_like(document_ids, dtype=torch.bool)
        starts[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
        borders = torch.cat(
            (
                starts.flatten().nonzero().flatten(),
                starts.new_full((1,), starts.numel(), dtype=torch.long),
            )
        )
        self.lengths: list[int] = borders.diff().tolist()
        """Tokens of each document, the padding included, in the order of the flattened batch."""
        self._borders = borders.to(
            device=device or document_ids.device, dtype=torch.int32, non_blocking=True
        )

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend within each document."""
        flat = [heads.flatten(0, 1) for heads in (query, key, value)]
        if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
            attended = self._variable_length(*flat)
        else:
            attended = self._per_document(*flat)
        return attended.view(query.shape)

    def _variable_length(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        longest = max(self.lengths)
        varlen_attn, causal = _variable_length_kernel()
        attended = varlen_attn(
            query, key, value, self._borders, self._borders, longest, longest, **causal
        )
        assert isinstance(attended, Tensor)
        return attended

    def _per_document(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        documents = zip(
            *(
                heads.transpose(0, 1)[None].split(self.lengths, dim=2)
                for heads in (query, key, value)
            ),
            strict=True,
        )
        attended = [
            F.scaled_dot_product_attention(*document, is_causal=True) for document in documents
        ]
        return torch.cat(attended, dim=2)[0].transpose(0, 1)
