"""Tensor parallelism on two real ranks: what is exchanged, and what each rank holds."""

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from parallel.groups import Groups
from parallel.layout import Layout
from parallel.parallelize import shard_model
from parallel.ranks import Ranks
from parallel.sharding import marked_dim, materialise, modules_to_shard
from parallel.tensor import cross_entropy
from parallel.tensor_plan import shard_dim
from tests.attention import packed
from tests.ranks import run_distributed
from training.config import ModelConfig
from training.data.micro_batch import borders_of
from training.losses import language_model_loss, verifier_loss
from training.models.attention import PackedAttention
from training.models.build import starting_values

Result = TypeVar("Result")


def _counted(run: Callable[[], Result]) -> tuple[Result, Counter[str]]:
    """What the call returns, and how often it exchanges what."""
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        value = run()
    names = (str(event.name) for event in trace.events() or ())
    return value, Counter(name for name in names if name.startswith("c10d::"))


def _filled(config: ModelConfig, groups: Groups) -> Any:
    model = shard_model(config, groups)
    with starting_values(config, seed=3) as value_of:
        for prefix, module in modules_to_shard(model):
            materialise(prefix, module, value_of, groups, torch.device("cpu"), torch.float32)
    return model


def _num_graphs(ranks: Ranks, sequence: bool) -> list[int]:
    """The number of compiled graphs after each of some micro-batches."""
    groups = Groups.connect(Layout(tensor=2, zero_stage=0, sequence=sequence), ranks)
    config = ModelConfig(
        hidden_size=16, num_layers=3, num_heads=2, ffn_size=32, vocab_size=512, max_tokens=64
    )
    model = _filled(config, groups)
    model.body.compile_blocks()
    found: list[int] = []
    for document_tokens in (16, 8, 5, 4, 3, 2):
        ids = (torch.arange(16) // document_tokens).repeat(2, 1)
        attention = PackedAttention(borders_of(ids, length=20), longest=16)
        model(torch.zeros_like(ids), torch.arange(16) % document_tokens, attention).sum().backward()
        counters = torch._dynamo.utils.counters  # pyright: ignore[reportPrivateUsage]
        found.append(counters["stats"]["unique_graphs"])
    groups.disconnect()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("sequence", [False, True])
def test_compiled_blocks_make_graphs_once(sequence: bool) -> None:
    for found in run_distributed(_num_graphs, 2, sequence):
        assert set(found) == {found[0]}
        assert found[0] <= 5 if sequence else found[0] == 3


def _exchanges(ranks: Ranks, num_layers: int, head: Any, sequence: bool) -> dict[str, Any]:
    """One forward and backward pass of a model of so many blocks."""
    groups = Groups.connect(Layout(tensor=2, zero_stage=0, sequence=sequence), ranks)
    config = ModelConfig(
        hidden_size=32,
        num_layers=num_layers,
        num_heads=4,
        ffn_size=64,
        vocab_size=512,
        max_tokens=64,
        head=head,
    )
    model = _filled(config, groups)
    tokens = torch.randint(0, 512, (2, 16), generator=torch.Generator().manual_seed(0))
    positions = torch.arange(16).repeat(2, 1)
    attention = packed(torch.zeros_like(tokens))
    at = torch.arange(3, 30)
    output, forward = _counted(lambda: model(tokens, positions, attention, at=at))
    weights = torch.ones(len(at))
    if head == "verifier":
        loss = verifier_loss(output, torch.ones(len(at)), weights)
    else:
        labels = tokens.flatten()[at]
        loss = language_model_loss(output, labels, weights, cross_entropy=cross_entropy)
    _, backward = _counted(loss.backward)
    groups.disconnect()
    dims = {name: marked_dim(parameter) for name, parameter in model.named_parameters()}
    sizes = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    counts = {"forward": forward, "backward": backward}
    return {**counts, "loss": float(loss), "sizes": sizes, "dims": dims}


def _all_exchanges(ranks: Ranks, cases: list[tuple[int, str, bool]]) -> list[dict[str, Any]]:
    return [_exchanges(ranks, *case) for case in cases]


Found = dict[tuple[int, str, bool], dict[str, Any]]
CASES = [
    (layers, head, sequence)
    for layers in (2, 4)
    for head in ("language_model", "verifier")
    for sequence in (False, True)
]
"""Layers, head, sequence parallelism."""


@pytest.fixture(scope="module")
def found() -> Found:
    first, second = run_distributed(_all_exchanges, 2, CASES)
    losses = [[case["loss"] for case in rank] for rank in (first, second)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    return dict(zip(CASES, first, strict=True))


def _added(found: Found, head: str, sequence: bool) -> dict[str, dict[str, int]]:
    """What two more blocks exchange."""
    two, four = found[2, head, sequence], found[4, head, sequence]
    return {
        way: {
            name: count - two[way].get(name, 0)
            for name, count in four[way].items()
            if count != two[way].get(name, 0)
        }
        for way in ("forward", "backward")
    }


@pytest.mark.parametrize("head", ["language_model", "verifier"])
def test_a_block_exchanges_once_on_leaving_and_once_on_entering(found: Found, head: str) -> None:
    # Leaving is the forward pass's exchange, entering the backward's.
    summed = {"c10d::allreduce_": 2}
    assert _added(found, head, False) == {"forward": summed, "backward": summed}


@pytest.mark.parametrize("head", ["language_model", "verifier"])
def test_with_shared_tokens_each_sum_is_two_halves(found: Found, head: str) -> None:
    halves = {"c10d::allgather_": 2, "c10d::reduce_scatter_": 2}
    # A LayerNorm's weight and bias have gradients that are sums over all tokens.
    backward = {**halves, "c10d::allreduce_": 4}
    assert _added(found, head, True) == {"forward": halves, "backward": backward}


def test_shared_tokens_change_no_loss(found: Found) -> None:
    for layers in (2, 4):
        for head in ("language_model", "verifier"):
            losses = [found[layers, head, sequence]["loss"] for sequence in (False, True)]
            assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_every_parameter_is_marked_as_the_table_says(found: Found) -> None:
    for head in ("language_model", "verifier"):
        for sequence in (False, True):
            dims = found[2, head, sequence]["dims"]
            assert dims == {name: shard_dim(name, head) for name in dims}


def test_each_rank_holds_its_part(found: Found) -> None:
    sizes = found[2, "verifier", True]["sizes"]
    block = {name.removeprefix("body.blocks.1."): size for name, size in sizes.items()}
    assert block["query.weight"] == [16, 32] and block["query.bias"] == [16]
    assert block["fc1.weight"] == [32, 32] and block["fc2.weight"] == [32, 32]
    assert block["attention_output.weight"] == [32, 16]
    assert block["attention_output.bias"] == block["norm.weight"] == [32]
    assert sizes["body.embedding.weight"] == [256, 32]
    assert sizes["head.weight"] == [1, 32]  # one output: it stays whole
    assert found[2, "language_model", False]["sizes"]["head.weight"] == [256, 32]
