"""One rank's training engine: DeepSpeed behind whole training steps and named state.

engine = parallelize(config, groups, device)               # parallel/parallelize.py
loss = engine.train_step(batches, loss_normalizer=supervised, learning_rate=1e-4)
for name, state, value in engine.states(): ...             # unsharded weights and moments
engine.close()
"""

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from parallel import backend, settings
from parallel.groups import Groups, TensorUnit
from parallel.layout import accumulation_steps_of
from parallel.sharding import shard_of, unshard, unsharded_size
from training.config import TrainConfig
from training.data.micro_batch import MicroBatch
from training.losses import Loss, micro_batch_loss
from training.models.dtypes import DTYPES
from training.models.heads import LanguageModel, Verifier
from training.optimizer import adamw

WEIGHT, MOMENTS = "fp32", ("exp_avg", "exp_avg_sq")
STATES = (WEIGHT, *MOMENTS)
"""What is saved of each parameter, as DeepSpeed's universal checkpoint format names it."""


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
        self._grad_norm: float | None = None
        optimizer = adamw(self.model, config.optimizer)
        if self._clips_here:
            optimizer.register_step_pre_hook(self._clip_gradients)
        with backend.silenced():
            self._engine = self._initialize(optimizer)

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
        self._grad_norm = float(norm)
        if not math.isfinite(self._grad_norm):
            # The optimizer skips what has no gradient; under ZeRO, DeepSpeed skips the update.
            for parameter in self.model.parameters():
                parameter.grad = None

    @property
    def grad_norm(self) -> float | None:
        """Global gradient norm of the last step, before clipping.

        Infinite or NaN where a gradient was: then the update was skipped, on all ranks.
        """
        norm = self._grad_norm if self._clips_here else self._engine.get_global_grad_norm()
        if norm is None:
            return None
        # DeepSpeed reports a norm that is not finite as -1.
        return float(norm) if not norm < 0 else math.inf

    def has_finite_state(self) -> bool:
        """Whether all weights and moments that this rank holds are finite. No communication."""
        optimizer = self._plain_optimizer()
        values = [*self._optimized(), *self.model.parameters()]
        values += [
            value
            for moments in optimizer.state.values()
            for name, value in moments.items()
            if name in MOMENTS
        ]
        # ZeRO-3 keeps a rank's shard of a weight beside the parameter, which is then empty.
        values += [
            shard for value in values if (shard := getattr(value, "ds_tensor", None)) is not None
        ]
        # Not `isfinite` of each: the norm needs no second tensor of the same size.
        largest = [
            torch.linalg.vector_norm(value.detach(), math.inf) for value in values if value.numel()
        ]
        return not largest or bool(
            torch.stack([x.double().to(self.device) for x in largest]).isfinite().all()
        )

    def parameters(self) -> dict[str, nn.Parameter]:
        """This rank's parameters by their names in the whole model."""
        module: nn.Module = self.model
        return dict(module.named_parameters())

    def whole_size(self, parameter: nn.Parameter) -> torch.Size:
        """A parameter's size in the whole model."""
        return unsharded_size(parameter, self.groups)

    @contextmanager
    def unpartitioned(self, parameters: Sequence[nn.Parameter]) -> Generator[None, None, None]:
        """Gather these from ZeRO-3's shards within the block (all data-parallel ranks enter it)."""
        if self._zero_stage < 3:
            yield
        else:
            with backend.deepspeed.zero.GatheredParameters(list(parameters)):
                yield

    def states(self) -> Iterator[tuple[str, str, Tensor]]:
        """Name, one of `STATES` and the unsharded tensor, for all of this rank's parameters.

        One tensor at a time is unsharded. A collective: every rank of a pipeline stage must
        iterate to the end.
        """
        self._link_moments()
        for name, parameter in self.parameters().items():
            for state in STATES:
                value = self._state_of(parameter, state)
                yield name, state, unshard(value, parameter, self.groups)

    def _state_of(self, parameter: nn.Parameter, state: str) -> Tensor:
        if self._zero_stage == 0 and state == WEIGHT:
            return parameter.detach()
        if self._zero_stage == 0:
            return self._engine.optimizer.state[parameter][state]
        if state == WEIGHT:
            found = backend.safe_get_full_fp32_param(parameter)
        else:
            found = backend.safe_get_full_optimizer_state(parameter, state)
        assert found is not None
        return found.view(getattr(parameter, "ds_shape", parameter.shape))

    def _link_moments(self) -> None:
        if self._zero_stage in (1, 2):
            backend.link_moments(self._engine.optimizer)

    @torch.no_grad()
    def restore(self, read: Callable[[str, str], Tensor], *, step: int) -> None:
        """Load weights and optimizer state from unsharded tensors, whatever layout wrote them.

        Args:
            read: An unsharded tensor by parameter name and one of `STATES`.
            step: Updates made so far.
        """
        plain = self._plain_optimizer()
        for value in self._optimized():
            plain.state[value] = {
                "step": torch.tensor(float(step), device=value.device),
                **{state: torch.zeros_like(value) for state in MOMENTS},
            }
        self._link_moments()
        for name, parameter in self.parameters().items():
            for state in STATES:
                shard = shard_of(read(name, state), parameter, self.groups).to(self.device)
                self._set_state(parameter, state, shard)

    def _plain_optimizer(self) -> Any:
        """torch's optimizer, which DeepSpeed's optimizer wraps under ZeRO."""
        optimizer = self._engine.optimizer
        return optimizer if self._zero_stage == 0 else optimizer.optimizer

    def _optimized(self) -> list[Tensor]:
        """The tensors that the optimizer updates on this rank: under ZeRO flat fp32 partitions."""
        if self._zero_stage == 3:
            return list(self._engine.optimizer.fp32_partitioned_groups_flat)
        groups = self._plain_optimizer().param_groups
        return [value for group in groups for value in group["params"]]

    def _set_state(self, parameter: nn.Parameter, state: str, value: Tensor) -> None:
        if state == WEIGHT:
            with self._writable(parameter):
                parameter.copy_(value)
            if self._zero_stage:
                backend.safe_set_full_fp32_param(parameter, value)
        elif self._zero_stage:
            backend.safe_set_full_optimizer_state(parameter, value, state)
        else:
            self._engine.optimizer.state[parameter][state].copy_(value)

    @contextmanager
    def _writable(self, parameter: nn.Parameter) -> Generator[None, None, None]:
        if self._zero_stage < 3:
            yield
        else:
            with backend.deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
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
