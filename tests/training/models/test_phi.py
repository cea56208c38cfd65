"""The model's arithmetic against transformers' Phi, packed and unpacked."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import PhiConfig, PhiForCausalLM

from tests.attention import packed
from tests.initial_values import initialise
from training.models.attention import causal_attention
from training.models.heads import LanguageModel, Verifier
from training.models.huggingface_names import to_huggingface
from training.models.parts import initial_value
from training.models.shape import ModelShape

SHAPE = ModelShape(
    hidden_size=64, num_layers=3, num_heads=4, ffn_size=160, vocab_size=101, max_tokens=64
)
# Sums of 160 terms of size one in another order: a few units in the last place of fp32.
TOLERANCE = 1e-5


def build(seed: int = 0, shape: ModelShape = SHAPE) -> LanguageModel:
    model = LanguageModel(shape)
    initialise(model, seed=seed, std=0.2)
    torch.manual_seed(seed)
    with torch.no_grad():
        # Zero biases and unit norms would hide one that is forgotten or swapped.
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def reference(model: LanguageModel) -> PhiForCausalLM:
    shape = model.shape
    theirs = PhiForCausalLM(
        PhiConfig(
            vocab_size=shape.vocab_size,
            hidden_size=shape.hidden_size,
            intermediate_size=shape.ffn_size,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            max_position_embeddings=shape.max_tokens,
        )
    ).eval()
    renamed = {
        to_huggingface(name, shape, "language_model"): value
        for name, value in model.state_dict().items()
    }
    theirs.load_state_dict(renamed, strict=True)
    return theirs


def pack(lengths: list[list[int]], width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random tokens, positions and document ids of rows holding these documents."""
    tokens = torch.randint(
        0, SHAPE.vocab_size, (len(lengths), width), generator=torch.Generator().manual_seed(5)
    )
    positions = torch.zeros_like(tokens)
    documents = torch.full_like(tokens, -1)
    for row, row_lengths in enumerate(lengths):
        start = 0
        for number, length in enumerate(row_lengths):
            positions[row, start : start + length] = torch.arange(length)
            documents[row, start : start + length] = number
            start += length
    return tokens, positions, documents


LENGTHS = [[7, 12, 5], [24], [1, 1, 20], [3]]


def test_logits_equal_transformers_unpacked() -> None:
    model = build()
    tokens, positions, _ = pack([[24], [24], [24]], 24)
    expected = reference(model)(tokens).logits
    for attention in (causal_attention, packed(torch.zeros_like(tokens))):
        torch.testing.assert_close(
            model(tokens, positions, attention), expected, atol=TOLERANCE, rtol=0
        )


def test_logits_equal_transformers_packed() -> None:
    model = build()
    tokens, positions, documents = pack(LENGTHS, 24)
    logits = model(tokens, positions, packed(documents))
    theirs = reference(model)
    for row, lengths in enumerate(LENGTHS):
        start = 0
        for length in lengths:
            here = slice(start, start + length)
            alone = theirs(tokens[row : row + 1, here]).logits[0]
            torch.testing.assert_close(logits[row, here], alone, atol=TOLERANCE, rtol=0)
            start += length


def gradients(model: LanguageModel, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    torch.nn.functional.cross_entropy(logits, targets, reduction="sum").backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("checkpointed", [False, True])
def test_gradients_packed_equal_unpacked(checkpointed: bool) -> None:
    model = build()
    model.body.checkpoint_activations = checkpointed
    tokens, positions, documents = pack(LENGTHS, 24)
    at = (documents >= 0).flatten()
    logits = model(tokens, positions, packed(documents), at)
    together = gradients(model, logits, tokens.flatten()[at])

    model.body.checkpoint_activations = False
    alone: list[Tensor] = []
    for row, lengths in enumerate(LENGTHS):
        start = 0
        for length in lengths:
            here = slice(start, start + length)
            alone.append(model(tokens[[row], here], positions[[row], here], causal_attention)[0])
            start += length
    unpacked = gradients(model, torch.cat(alone), tokens.flatten()[at])
    assert together.keys() == unpacked.keys() == dict(model.named_parameters()).keys()
    for name, gradient in together.items():
        scale = float(unpacked[name].abs().max()) + 1e-3
        torch.testing.assert_close(
            gradient,
            unpacked[name],
            atol=1e-5 * scale,
            rtol=1e-4,
            msg=lambda m, n=name: f"{n}: {m}",
        )


def test_padding_contributes_nothing() -> None:
    model = build()
    tokens, positions, documents = pack(LENGTHS, 24)
    real = (documents >= 0).flatten()
    first = model(tokens, positions, packed(documents), real)
    expected = gradients(model, first, tokens.flatten()[real])
    other = torch.where(documents >= 0, tokens, (tokens + 1) % SHAPE.vocab_size)
    second = model(other, positions, packed(documents), real)
    actual = gradients(model, second, tokens.flatten()[real])
    assert torch.equal(first, second)
    for name, gradient in expected.items():
        assert torch.equal(gradient, actual[name]), name


def test_positions_chosen_before_the_head_equal_all_logits() -> None:
    model = build()
    tokens, positions, documents = pack(LENGTHS, 24)
    attention = packed(documents)
    everywhere = model(tokens, positions, attention).flatten(0, 1)
    chosen = torch.tensor([0, 5, 60])
    torch.testing.assert_close(
        model(tokens, positions, attention, chosen), everywhere[chosen], atol=TOLERANCE, rtol=0
    )


def test_verifier_gives_one_score_a_position() -> None:
    verifier = Verifier(SHAPE)
    tokens, positions, documents = pack(LENGTHS, 24)
    assert verifier(tokens, positions, packed(documents)).shape == (4, 24)


def test_bf16_stays_close_to_fp32() -> None:
    model = build()
    tokens, positions, documents = pack(LENGTHS, 24)
    exact = model(tokens, positions, packed(documents)).detach()
    coarse = model.bfloat16()(tokens, positions, packed(documents)).detach()
    assert coarse.dtype == torch.bfloat16
    # bf16 keeps 8 bits; three layers of rounding stay within a few percent of the spread.
    assert float((coarse.float() - exact).std() / exact.std()) < 0.05


def test_published_shape_counts_the_published_parameters() -> None:
    with torch.device("meta"):
        model = LanguageModel(
            ModelShape(
                hidden_size=2048,
                num_layers=24,
                num_heads=32,
                ffn_size=8192,
                vocab_size=51200,
                max_tokens=2048,
            )
        )
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_418_270_720
    assert all(parameter.is_meta for parameter in model.parameters())


def test_initial_values_depend_on_seed_and_name_alone() -> None:
    first, second = LanguageModel(SHAPE), LanguageModel(SHAPE)
    initialise(first, seed=3)
    initialise(second, seed=3)
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, second.get_parameter(name)), name
    verifier = Verifier(SHAPE)
    initialise(verifier, seed=3)
    for name, parameter in first.body.named_parameters():
        assert torch.equal(parameter, verifier.body.get_parameter(name)), name
    initialise(second, seed=4)
    assert not torch.equal(first.head.weight, second.head.weight)
    blocks = [first.get_parameter(f"body.blocks.{layer}.query.weight") for layer in (0, 1)]
    assert not torch.equal(blocks[0], blocks[1])
    weight = first.body.embedding.weight.detach()
    assert float(weight.std()) == pytest.approx(0.02, rel=0.05)
    assert float(first.get_parameter("body.final_norm.weight").detach().min()) == 1.0
    assert float(first.head.bias.detach().abs().max()) == 0.0
    value = initial_value("head.weight", torch.Size([101, 64]), seed=3, std=0.02)
    assert torch.equal(value, first.head.weight)


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="hidden_size 64 is not a multiple of num_heads 5"):
        replace(SHAPE, num_heads=5, num_key_value_heads=0, head_dim=0)
    with pytest.raises(ValueError, match="num_heads 4 is not a multiple of num_key_value_heads 3"):
        replace(SHAPE, num_key_value_heads=3)
    with pytest.raises(ValueError, match="rotated in pairs"):
        replace(SHAPE, rotary_fraction=0.35)
