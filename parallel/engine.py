"""One rank's training engine: DeepSpeed behind whole training steps and named state.

engine = parallelize(config, groups, device)               # parallel/parallelize.py
loss = engine.train_step(batches, loss_normalizer=supervised, learning_rate=1e-4)
for entry in engine.state.to_save(): ...                   # unsharded weights and moments
engine.close()
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from parallel import backend, settings
from parallel.groups import Groups, TensorUnit
from parallel.layout import accumulation_steps_of
from parallel.training_state import TrainingState
from training.config import TrainConfig
from training.data.micro_batch import MicroBatch
from training.losses import Loss, micro_batch_loss
from training.models.dtypes import DTYPES
from training.models.heads import LanguageModel, Verifier
from training.optimizer import adamw


class Engine:
    """This rank's part of a model under DeepSpeed: ZeRO 0-3, mixed precision, accumulation.

    Args:
        config: `model`, `parallel`, `training` and `optimizer` are read.
        groups: The layout's process groups.
        device: Where this rank computes.
        model: This rank's part of the model, filled.
        loss: Of its head's output.
    """

    def __init__(
        self,
        config: TrainConfig,
        groups: Groups,
        device: torch.device,
        *,
        model: LanguageModel | Verifier,
        loss: Loss,
    ) -> None:
        self.config, self.groups, self.device, self.model = config, groups, device, model
        self.dtype = DTYPES[config.training.precision]
        self._loss = loss
        self._zero_stage = groups.layout.zero_stage
        # Without ZeRO DeepSpeed steps the plain optimizer and reports no gradient norm: the
        # engine clips, and keeps the norm, itself.
        self._clips_here = self._zero_stage == 0
        self._grad_norm: Tensor | float | None = None
        self._skipped = False
        self._optimizer = adamw(self.model, config.optimizer)
        if self._clips_here:
            self._optimizer.register_step_pre_hook(self._clip_gradients)
        with backend.silenced():
            self._engine = self._initialize(self._optimizer)
        if self._zero_stage == 0 and groups.layout.data == 1:
            # No rank to sum gradients with: DeepSpeed would copy them to a buffer and back.
            self._engine.enable_backward_allreduce = False
        backend.add_gradients_in_place(self._engine.optimizer)
        self.state = TrainingState(model, groups, self._engine.optimizer)

    def _initialize(self, optimizer: torch.optim.Optimizer) -> Any:
        return backend.deepspeed.initialize(
            model=self.model,
            optimizer=optimizer,
            config=settings.for_deepspeed(self.config, self.groups.layout),
            mpu=TensorUnit.from_groups(self.groups),
        )[0]

    @property
    def num_micro_batches(self) -> int:
        """Micro-batches that this rank, or its pipeline, takes in one step."""
        return accumulation_steps_of(self.config, self.groups.layout)

    def train_step(
        self, batches: Sequence[MicroBatch], *, loss_normalizer: float, learning_rate: float
    ) -> Tensor:
        """Accumulate gradients over the micro-batches and all ranks, then update the weights.

        Args:
            batches: The micro-batches of this data-parallel rank, equal on all ranks of its
                tensor and pipeline groups.
            loss_normalizer: The sum of the weights of the supervised tokens of the whole step,
                over all ranks: the loss that is minimised is the weighted sum divided by it.
            learning_rate: Of this update.

        Returns:
            The sum of this data-parallel rank's losses, not normalised; zero on ranks that
            compute none (`groups.computes_loss` says which one counts).
        """
        self._engine.train()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for batch in batches:
            loss = micro_batch_loss(self._engine, self._loss, batch, self.device)
            # Summed over all ranks and micro-batches these are the step's loss. DeepSpeed averages
            # over ranks and micro-batches: the factor undoes one, `scale_wrt_gas` the other.
            addend = loss * (self.groups.layout.data / loss_normalizer)
            self._engine.backward(addend, scale_wrt_gas=False)
            # Every micro-batch asks for a step; DeepSpeed takes it at the last one.
            self._set_learning_rate(learning_rate)
            self._engine.step()
            total += loss.detach()
        return total

    def before_update(self, function: Callable[[], object]) -> None:
        """Call a function before each update of weights and moments, after the backward pass."""

        def hook(*_: Any) -> None:
            function()

        self._optimizer.register_step_pre_hook(hook)

    def seed_dropout(self, step: int) -> None:
        """Make dropout's randomness a function of the step, so that none of it has to be saved.

        Tensor-parallel neighbours draw the same: each computes a part of the same activations.
        """
        layout, place = self.groups.layout, self.groups.place
        torch.manual_seed(
            (self.config.run.seed * 1_000_003 + step) * layout.data * layout.pipeline
            + place.stage * layout.data
            + place.data
        )

    def _set_learning_rate(self, learning_rate: float) -> None:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate

    def _clip_gradients(self, *_: Any) -> None:
        clip = self.config.optimizer.max_grad_norm or float("inf")
        if self.groups.tensor is None:
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        else:
            norm = backend.clip_grad_norm_(
                self.model.parameters(), clip, mpu=TensorUnit.from_groups(self.groups)
            )
        self._grad_norm = norm
        # The one wait of a step, as DeepSpeed's under ZeRO: whether to update is decided here.
        self._skipped = not math.isfinite(norm)
        if self._skipped:
            # The optimizer skips what has no gradient; under ZeRO, DeepSpeed skips the update.
            for parameter in self.model.parameters():
                parameter.grad = None

    @property
    def grad_norm(self) -> Tensor | float | None:
        """Global gradient norm of the last step, before clipping; see `LateValues`."""
        return self._grad_norm if self._clips_here else self._engine.get_global_grad_norm()

    @property
    def skipped(self) -> bool:
        """Whether the last update was skipped, on all ranks: its gradient was not finite."""
        return self._skipped if self._clips_here else bool(self._engine.optimizer.overflow)

    @contextmanager
    def unpartitioned(self, parameters: Sequence[nn.Parameter]) -> Generator[None, None, None]:
        """Gather these from ZeRO-3's shards within the block (all data-parallel ranks enter it)."""
        if self._zero_stage < 3:
            yield
        else:
            with backend.deepspeed.zero.GatheredParameters(list(parameters)):
                yield

    @property
    def loss_scale(self) -> dict[str, bool | int | float]:
        """State of fp16's loss scaling; empty in other precisions."""
        if self.config.training.precision != "fp16":
            return {}
        scaler = vars(self._engine.optimizer.loss_scaler)
        return {name: value for name, value in scaler.items() if isinstance(value, int | float)}

    def set_loss_scale(self, state: Mapping[str, bool | int | float]) -> None:
        """Restore the loss scaling of an earlier attempt."""
        if state:
            vars(self._engine.optimizer.loss_scaler).update(state)

    def close(self) -> None:
        """Free the DeepSpeed engine and its process groups."""
        self._engine.destroy()
        del self._engine
        backend.disconnect()
