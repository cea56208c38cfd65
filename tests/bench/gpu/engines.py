"""One training step of ours, under DeepSpeed's engine or a plain torch loop.

Both take the same model, attention, losses, optimizer and order of operations as
`training/trainer.py`, which itself cannot be imported where DeepSpeed is missing.
"""

import copy
from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from tests.bench.gpu.setting import Setting, installed
from training.config import ModelConfig, TrainConfig
from training.data.micro_batch import Batch, MicroBatch
from training.losses import language_model_loss, micro_batch_loss
from training.models.build import empty_model
from training.models.heads import LanguageModel, Verifier
from training.optimizer import adamw

WITHOUT_DEEPSPEED = (
    "deepspeed is not installed: its engine (parallel/engine.py) is not measured, "
    "only the plain torch loop over the same modules"
)


class TrainingEngine(Protocol):
    """What a step needs of an engine; `parallel.engine.Engine` is one."""

    def train_step(
        self, batches: Sequence[MicroBatch], *, loss_normalizer: float, learning_rate: float
    ) -> Tensor: ...

    def close(self) -> None: ...


class PlainEngine:
    """What ZeRO-1 does on one device: bf16 weights, fp32 masters, fp32 sums of gradients.

    In fp32 the masters are the weights.
    """

    def __init__(self, model: LanguageModel | Verifier, config: TrainConfig) -> None:
        self._max_grad_norm = config.optimizer.max_grad_norm or float("inf")
        self._low = config.training.precision == "bf16"
        self._masters = model
        self.module = copy.deepcopy(model).bfloat16() if self._low else model
        if config.training.compile:
            self.module.body.compile_blocks()
        self._optimizer = adamw(model, config.optimizer)
        self._pairs = list(zip(model.parameters(), self.module.parameters(), strict=True))

    def train_step(
        self, batches: Sequence[MicroBatch], *, loss_normalizer: float, learning_rate: float
    ) -> Tensor:
        self.module.train()
        device = next(self.module.parameters()).device
        total = torch.zeros((), dtype=torch.float64, device=device)
        for batch in batches:
            loss = micro_batch_loss(self.module, language_model_loss, batch, device)
            self._backward(loss / loss_normalizer)
            total += loss.detach()
        self._step(learning_rate)
        return total

    def _backward(self, loss: Tensor) -> None:
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
    def _step(self, learning_rate: float) -> None:
        nn.utils.clip_grad_norm_(self._masters.parameters(), self._max_grad_norm)
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
    from parallel.groups import Groups
    from parallel.layout import Layout
    from parallel.parallelize import parallelize as build
    from parallel.ranks import discover

    ranks = discover()
    ranks.connect(setting.device)
    groups = Groups.connect(Layout.from_config(config, ranks.world_size), ranks)
    module: nn.Module = model
    return build(config, groups, setting.device, value_of=module.get_parameter)


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


def mean_loss(engine: TrainingEngine, batches: list[Batch], *, learning_rate: float) -> Tensor:
    """One update over these micro-batches; its loss, which the host has not waited for."""
    weight = float(sum(batch.num_supervised for batch in batches))
    loss = engine.train_step(batches, loss_normalizer=weight, learning_rate=learning_rate)
    return loss / weight


def train_step(engine: TrainingEngine, batches: list[Batch], *, learning_rate: float) -> float:
    """One update over these micro-batches; its loss."""
    return float(mean_loss(engine, batches, learning_rate=learning_rate))
