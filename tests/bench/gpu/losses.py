"""The same numbers on the GPU as on the CPU, and the packed attention kernel against a mask."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.bench.gpu.engines import PlainEngine, train_step
from tests.bench.gpu.record import Record
from tests.bench.gpu.sequences import micro_batches
from tests.bench.gpu.setting import Setting
from training.config import ModelConfig, TrainConfig
from training.data.micro_batch import Batch
from training.models.attention import PackedAttention
from training.models.build import empty_model, starting_values
from training.models.heads import LanguageModel, Verifier

STEPS = 10
FP32_TOLERANCE = 1e-4
"""Sums in another order; ten steps of AdamW let the difference grow a little."""
BF16_TOLERANCE = 2e-2
ATTENTION_TOLERANCE = 1e-2
"""Of bf16 results against fp32 arithmetic on the same bf16 values: norm of the difference."""


def run(setting: Setting, record: Record) -> None:
    """Ten steps of a small model, then attention alone."""
    # The default, said aloud: TF32 keeps 10 bits and would hide or fake a difference.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if not setting.on_gpu:
        record.note("No GPU here: the losses compare the CPU with itself, bf16 with fp32.")
    reference = _losses(torch.device("cpu"), "fp32")
    for precision, tolerance in (("fp32", FP32_TOLERANCE), ("bf16", BF16_TOLERANCE)):
        found = _losses(setting.device, precision)
        worst = max(abs(a - b) / abs(b) for a, b in zip(found, reference, strict=True))
        record.row(
            what=f"{STEPS} losses, {precision} on {setting.device.type} against fp32 on cpu",
            first=found[0],
            last=found[-1],
            relative_difference=worst,
            tolerance=tolerance,
            passed=worst <= tolerance,
        )
    _check_attention(setting, record)


def _config(precision: str) -> TrainConfig:
    toy = Setting(device=torch.device("cpu"), toy=True)
    return toy.config(
        "1b3",
        f"training.precision={precision}",
        "training.micro_batch_sequences=2",
        "training.global_batch_sequences=4",
        "optimizer.learning_rate=1e-3",
        "optimizer.warmup_steps=0",
    )


@torch.no_grad()
def _whole_model(config: ModelConfig, *, seed: int) -> LanguageModel | Verifier:
    """The whole model in fp32 on the CPU with its initial values."""
    model = empty_model(config, "cpu")
    module: nn.Module = model
    with starting_values(config, seed=seed) as value_of:
        for name, parameter in module.named_parameters():
            parameter.copy_(value_of(name))
    return model


def _losses(device: torch.device, precision: str) -> list[float]:
    """Of the recipe's own starting weights, which do not depend on the device."""
    config = _config(precision)
    toy = Setting(device=torch.device("cpu"), toy=True)
    engine = PlainEngine(_whole_model(config.model, seed=1).to(device), config)
    batches = micro_batches(toy, config, count=4, sequences=2)
    return [
        train_step(
            engine,
            batches[:2] if step % 2 else batches[2:],
            learning_rate=config.optimizer.learning_rate,
        )
        for step in range(STEPS)
    ]


def _check_attention(setting: Setting, record: Record) -> None:
    """Outputs and gradients of packed attention in bf16 against a dense mask in fp32."""
    config = (
        setting.config("1b3", "data.sequence_length=1280") if setting.on_gpu else _config("bf16")
    )
    shape = config.model
    batch = micro_batches(setting, config, count=1, sequences=2, seed=3)[0]
    size = (*batch.tokens.shape, shape.num_heads, shape.hidden_size // shape.num_heads)
    random = torch.Generator(setting.device).manual_seed(2)
    inputs, out_gradient = (
        [
            torch.randn(size, device=setting.device, generator=random).bfloat16()
            for _ in range(count)
        ]
        for count in (3, 1)
    )
    packed = PackedAttention(batch.borders.to(setting.device), longest=batch.tokens.shape[1])
    ours = [values.clone().requires_grad_() for values in inputs]
    attended = packed(0, *ours)
    attended.backward(out_gradient[0])
    exact = [values.float().requires_grad_() for values in inputs]
    expected = _masked(batch, *exact)
    expected.backward(out_gradient[0].float())
    # Padding attends to itself only, on both sides, and is no one's key: compared as well.
    pairs = {"output": (attended, expected)}
    for name, mine, true in zip(("query", "key", "value"), ours, exact, strict=True):
        assert mine.grad is not None and true.grad is not None
        pairs[f"gradient of {name}"] = (mine.grad, true.grad)
    for name, (found, true) in pairs.items():
        distance = float((found.detach().float() - true.detach()).norm() / true.detach().norm())
        record.row(
            what=f"packed attention, {name}, bf16 on {setting.device.type} against a mask in fp32",
            relative_difference=distance,
            tolerance=ATTENTION_TOLERANCE,
            passed=distance <= ATTENTION_TOLERANCE,
        )


def _masked(batch: Batch, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    ids = batch.document_ids.to(query.device)
    tokens = ids.shape[1]
    causal = torch.ones(tokens, tokens, dtype=torch.bool, device=query.device).tril()
    mask = (ids[:, None, :, None] == ids[:, None, None, :]) & causal
    heads = (values.transpose(1, 2) for values in (query, key, value))
    return F.scaled_dot_product_attention(*heads, attn_mask=mask).transpose(1, 2)
