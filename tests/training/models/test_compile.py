"""Blocks under torch.compile: one graph for every micro-batch, with the plain path's numbers."""

from collections.abc import Iterator, Mapping

import pytest
import torch
from torch import Tensor

from tests.initial_values import initialise
from tests.training.models.families import shape
from training.data.micro_batch import borders_of
from training.models.attention import PackedAttention
from training.models.heads import LanguageModel

TOKENS, MOST_EXAMPLES = 32, 8


@pytest.fixture
def counters() -> Iterator[Mapping[str, Mapping[str, int]]]:
    """What torch.compile counts, from zero."""
    torch.compiler.reset()
    found = torch._dynamo.utils.counters  # pyright: ignore[reportPrivateUsage]
    found.clear()
    yield found
    torch.compiler.reset()


def micro_batches(count: int) -> Iterator[tuple[Tensor, Tensor, PackedAttention]]:
    draw = torch.Generator().manual_seed(0)
    for _ in range(count):
        num_documents = int(torch.randint(1, MOST_EXAMPLES + 1, (), generator=draw))
        starts = torch.randperm(TOKENS - 1, generator=draw)[: num_documents - 1].sort().values + 1
        ids = torch.zeros(2, TOKENS, dtype=torch.long)
        ids[0, starts] = 1
        ids = ids.cumsum(1)
        places = torch.arange(TOKENS).repeat(2, 1)
        begins = torch.where(torch.cat((ids[:, :1] >= 0, ids.diff(dim=1) > 0), 1), places, 0)
        borders = borders_of(ids, length=2 * (MOST_EXAMPLES + 1) + 1)
        yield (
            torch.randint(40, (2, TOKENS), generator=draw),
            places - begins.cummax(1).values,
            PackedAttention(borders, longest=TOKENS),
        )


def gradients(model: LanguageModel, count: int) -> list[dict[str, Tensor]]:
    found: list[dict[str, Tensor]] = []
    for tokens, positions, attention in micro_batches(count):
        model.zero_grad()
        model(tokens, positions, attention).logsumexp(-1).sum().backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    return found


@pytest.mark.parametrize(
    ("family", "checkpointed"),
    [("phi", False), ("phi", True), ("llama3", True), ("qwen2", False), ("qwen3", False)],
)
def test_one_graph_serves_all_micro_batches_and_blocks(
    family: str, checkpointed: bool, counters: Mapping[str, Mapping[str, int]]
) -> None:
    sizes = {"num_layers": 3, "vocab_size": 300, "max_tokens": 32}
    model = LanguageModel(shape(family, **sizes), checkpoint_activations=checkpointed)
    initialise(model, seed=1)
    expected = gradients(model, 12)
    model.body.compile_blocks()
    found = gradients(model, 12)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    for mine, true in zip(found, expected, strict=True):
        for name, gradient in mine.items():
            torch.testing.assert_close(gradient, true[name], atol=1e-4, rtol=1e-4)
