# pyright: reportPrivateUsage=false
"""Packed attention: both ways of computing it against a block-diagonal mask."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.attention import packed
from training.data.micro_batch import borders_of
from training.models import attention as module
from training.models.attention import PackedAttention
from training.models.document_attention import document_attention

DOCUMENTS = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2, 2, -1], [0, 1, 1, 1, 1, 1, 1, -1, -1, -1]])
_places = [("cpu", torch.float32, 1e-6)]
if torch.cuda.is_available():  # bf16 takes the flash kernel there, and keeps 8 bits
    _places += [("cuda", torch.float32, 1e-5), ("cuda", torch.bfloat16, 3e-2)]


def heads() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 10, 3, 8, generator=generator) for _ in range(3)]


def masked(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    same = DOCUMENTS[:, :, None] == DOCUMENTS[:, None, :]
    mask = (same & torch.ones(10, 10, dtype=torch.bool).tril())[:, None]
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)


@pytest.mark.parametrize(("device", "dtype", "tolerance"), _places)
def test_equals_a_block_diagonal_mask(device: str, dtype: torch.dtype, tolerance: float) -> None:
    there = [part.to(device, dtype) for part in heads()]
    found = packed(DOCUMENTS, device)(0, *there)
    torch.testing.assert_close(found.float().cpu(), masked(*heads()), atol=tolerance, rtol=0)


def test_gradients_equal_those_of_a_block_diagonal_mask() -> None:
    there, expected = ([part.requires_grad_() for part in heads()] for _ in range(2))
    gradient = torch.randn(2, 10, 3, 8, generator=torch.Generator().manual_seed(1))
    packed(DOCUMENTS)(0, *there).backward(gradient)
    masked(*expected).backward(gradient)
    for mine, true in zip(there, expected, strict=True):
        assert mine.grad is not None and true.grad is not None
        torch.testing.assert_close(mine.grad, true.grad, atol=1e-6, rtol=0)


def test_the_operator_is_registered_as_torch_demands() -> None:
    flat = [part.flatten(0, 1).requires_grad_() for part in heads()]
    torch.library.opcheck(document_attention, (*flat, borders_of(DOCUMENTS)))


def test_documents_without_tokens_change_nothing() -> None:
    padded = PackedAttention(borders_of(DOCUMENTS, length=20), longest=10)
    assert torch.equal(padded(0, *heads()), packed(DOCUMENTS)(0, *heads()))


def test_adjacent_rows_with_equal_ids_stay_apart() -> None:
    attention = packed(torch.zeros(2, 10, dtype=torch.long))
    query, key, value = heads()
    both = attention(0, query, key, value)
    value = value.clone()
    value[0] = 100.0
    assert torch.equal(both[1], attention(0, query, key, value)[1])


def test_variable_length_call_gets_the_borders(monkeypatch: pytest.MonkeyPatch) -> None:
    # The kernel itself needs a GPU; what it is told can be checked anywhere.
    def emulate(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        query_borders: Tensor,
        key_borders: Tensor,
        longest_query: int,
        longest_key: int,
        **causal: object,
    ) -> Tensor:
        assert query_borders.dtype == torch.int32
        assert query_borders.tolist() == key_borders.tolist() == [0, 3, 5, 9, 10, 11, 17, 20]
        assert longest_query == longest_key == 10
        assert causal in ({"window_size": (-1, 0)}, {"is_causal": True})
        out = torch.empty_like(query)
        for start, end in zip(query_borders[:-1], query_borders[1:], strict=True):
            q, k, v = (x[start:end].transpose(0, 1) for x in (query, key, value))
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            out[start:end] = attended.transpose(0, 1)
        return out

    causal = module._variable_length_kernel()[1]
    monkeypatch.setattr(module, "_variable_length_kernel", lambda: (emulate, causal))
    query, key, value = heads()
    attention = packed(DOCUMENTS)
    found = attention.variable_length(query, key, value)
    torch.testing.assert_close(found, masked(query, key, value), atol=1e-6, rtol=0)
    # One head of keys and values for all three of the queries.
    key, value = key[..., :1, :], value[..., :1, :]
    found = attention.variable_length(query, key, value)
    expected = masked(query, *(part.expand_as(query) for part in (key, value)))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
