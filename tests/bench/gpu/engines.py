"""One training step of ours, under DeepSpeed's engine or a plain torch loop.

Both take the same model, attention, losses, optimizer and order of operations as
`training/loop.py`, which itself cannot be imported where DeepSpeed is missing.
"""

import copy
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from tests.bench.gpu.rows import IGNORED, Rows
from tests.bench.gpu.setting import Setting, installed
from training.config import ModelConfig, TrainConfig
from training.losses import language_model_loss
from training.models.attention import PackedAttention
from training.models.build import empty_model
from training.models.heads import LanguageModel
from training.optimizer import adamw

WITHOUT_DEEPSPEED = (
    "deepspeed is not installed: its engine (parallel/engine.py) is not measured, "
    "only the plain torch loop over the same modules"
)


class TrainingEngine(Protocol):
    """What a step needs of an engine; `parallel.engine.Engine` is one."""

    def __call__(self, *arguments: Any, **keywords: Any) -> Tensor: ...

    def train(self) -> None: ...

    def backward(self, loss: Tensor) -> None: ...

    def step(self, learning_rate: float) -> None: ...

    def close(self) -> None: ...


class PlainEngine:
    """What ZeRO-1 does on one device: bf16 weights, fp32 masters, fp32 sums of gradients.

    In fp32 the masters are the weights.
    """

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        self._clip_norm = config.optimizer.clip_norm or float("inf")
        self._low = config.training.precision == "bf16"
        self._masters = model
        self.module = copy.deepcopy(model).bfloat16() if self._low else model
        self._optimizer = adamw(model, config.optimizer)
        self._pairs = list(zip(model.parameters(), self.module.parameters(), strict=True))

    def __call__(self, *arguments: Any, **keywords: Any) -> Tensor:
        return self.module(*arguments, **keywords)

    def train(self) -> None:
        self.module.train()

    def backward(self, loss: Tensor) -> None:
        loss.backward()
        if not self._low:
            return
        for master, weight in self._pairs:
            assert weight.grad is not None
            if master.grad is None:
                master.grad = weight.grad.float()
            else:
                master.grad.add_(weight.grad)
            weight.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        nn.utils.clip_grad_norm_(self._masters.parameters(), self._clip_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._low:
            for master, weight in self._pairs:
                weight.copy_(master)

    def close(self) -> None:
        """Nothing is held outside the object."""


def engine_names() -> list[str]:
    """The engines that can be measured here."""
    return ["deepspeed", "plain"] if installed("deepspeed") else ["plain"]


def build_engine(name: str, setting: Setting, config: TrainConfig) -> TrainingEngine:
    """A model with fresh weights on the device, under the named engine."""
    model = fresh_model(config.model, setting.device)
    if name == "plain":
        return PlainEngine(model, config)
    from parallel.engine import Engine
    from parallel.ranks import discover

    ranks = discover()
    ranks.connect(setting.device)
    return Engine(model, config=config, ranks=ranks, device=setting.device)


@torch.no_grad()
def fresh_model(
    config: ModelConfig, device: torch.device, dtype: torch.dtype = torch.float32
) -> LanguageModel:
    """Starting weights drawn on the device: the recipe's own come from the CPU, in a minute."""
    model = cast(LanguageModel, empty_model(config, "meta")).to(dtype).to_empty(device=device)
    random = torch.Generator(device).manual_seed(0)
    module: nn.Module = model
    for name, parameter in module.named_parameters():
        if name.endswith(".bias"):
            parameter.zero_()
        elif "norm" in name:
            parameter.fill_(1.0)
        else:
            parameter.normal_(0.0, config.init_std, generator=random)
    return model


def train_step(
    engine: TrainingEngine, batches: list[Rows], *, device: torch.device, learning_rate: float
) -> float:
    """One update over these micro-batches, as the training loop does it; the mean loss."""
    engine.train()
    supervised = sum(batch.num_supervised for batch in batches)
    total = torch.zeros((), dtype=torch.float64, device=device)
    for batch in batches:
        attention = PackedAttention(batch.document_ids, device)
        labels = batch.labels.flatten()
        at = (labels != IGNORED).nonzero().flatten()
        tokens, positions, labels, at = (
            values.to(device, non_blocking=True)
            for values in (batch.tokens, batch.positions, labels[at], at)
        )
        logits = engine(tokens, positions, attention, at=at)
        loss = language_model_loss(logits, labels, torch.ones(len(at), device=device))
        engine.backward(loss / supervised)
        total += loss.detach()
    loss = float(total) / supervised
    engine.step(learning_rate)
    return loss
