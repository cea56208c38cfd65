"""Computes causal attention in training and scoring, within each packed document.

Every layer calls it with `[sequences, tokens, heads, head_dim]` tensors, as `parts.Attention` says.
`PackedAttention` is built once per micro-batch and holds the borders of documents, which all layers
use:

    hidden = body(tokens, positions, PackedAttention(batch.borders, longest=sequence_length))

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

from training.models.document_attention import document_attention

_GROUPED = "enable_gqa"


@functools.cache
def _variable_length_kernel() -> tuple[Callable[..., Any], dict[str, Any]]:
    """torch's kernel and its arguments for causal attention; slow to import, used on GPUs only."""
    from torch.nn.attention.varlen import varlen_attn

    # torch 2.10 has `is_causal`; later versions have a window instead.
    if "window_size" in inspect.signature(varlen_attn).parameters:
        return varlen_attn, {"window_size": (-1, 0)}
    return varlen_attn, {"is_causal": True}


def repeated(heads: Tensor, num_heads: int) -> Tensor:
    """Keys or values `[..., key_value_heads, head_dim]` once for each query head that they serve.

    Returns:
        `[..., num_heads, head_dim]`; the same tensor if there are as many.
    """
    times = num_heads // heads.shape[-2]
    return heads if times == 1 else heads.repeat_interleave(times, -2)


def causal_attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention over whole sequences of one document each, with any padding on the right."""
    key, value = (repeated(heads, query.shape[-2]) for heads in (key, value))
    return F.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), is_causal=True
    ).transpose(1, 2)


class PackedAttention:
    """Causal attention that stops at the borders of the documents packed into a sequence.

    On CUDA in bf16 or fp16 it is torch's variable-length flash attention over all tokens at once;
    on a CPU an operator of ours (document_attention.py); on CUDA in fp32, which is for checks, one
    call per document. The first two are one operator to torch.compile, whatever the borders are.
    """

    def __init__(self, borders: Tensor, *, longest: int) -> None:
        """Take the borders.

        Args:
            borders: int32, as `MicroBatch.borders`, on the model's device. A document may have no
                tokens.
            longest: At least the number of tokens of the longest document. A constant of the run:
                the compiled graph holds it.
        """
        self._borders, self._longest = borders, longest

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend within each document."""
        if query.is_cuda and query.dtype != torch.float32:
            return self.variable_length(query, key, value)
        flat = [repeated(heads, query.shape[-2]).flatten(0, 1) for heads in (query, key, value)]
        if query.is_cuda:
            attended = self._per_document(*flat)
        else:
            attended, _ = document_attention(*flat, self._borders)
        return attended.view(query.shape)

    def variable_length(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The same by torch's kernel for GPUs, in bf16 or fp16."""
        kernel, arguments = _variable_length_kernel()
        if key.shape[-2] < query.shape[-2]:
            # Later versions of torch read each key for all of its queries.
            if _GROUPED in inspect.signature(kernel).parameters:
                arguments = {**arguments, _GROUPED: True}
            else:
                key, value = (repeated(heads, query.shape[-2]) for heads in (key, value))
        flat = [heads.flatten(0, 1) for heads in (query, key, value)]
        borders, longest = self._borders, self._longest
        attended = kernel(*flat, borders, borders, longest, longest, **arguments)
        assert isinstance(attended, Tensor)
        return attended.view(query.shape)

    def _per_document(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        lengths = [length for length in self._borders.diff().tolist() if length]
        documents = zip(
            *(heads.transpose(0, 1)[None].split(lengths, dim=2) for heads in (query, key, value)),
            strict=True,
        )
        attended = [
            F.scaled_dot_product_attention(*document, is_causal=True) for document in documents
        ]
        return torch.cat(attended, dim=2)[0].transpose(0, 1)
