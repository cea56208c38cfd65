"""DeepSpeed as the engine: ZeRO, tensor parts, mixed precision, accumulation, state.

It builds this rank's share of a model and gives back an `Engine` that takes whole training
steps and hands its weights and optimizer state out and in by name.

    engine = build_engine(config, groups, device)              # parallel/pipeline.py
    loss = engine.train_step(batches, weight=supervised, learning_rate=1e-4)
    engine.close()
"""

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from parallel import backend
from parallel.groups import Groups, TensorUnit
from parallel.layout import micro_batches_per_step
from parallel.sharding import (
    ValueOf,
    cut_dim,
    loss_of,
    materialise,
    part_of,
    pieces,
    skeleton,
    whole_of,
)
from training.config import ConfigError, TrainConfig
from training.losses import MicroBatch, micro_batch_loss
from training.models.build import starting_values
from training.models.dtypes import DTYPES
from training.optimizer import adamw

WEIGHT, MOMENTS = "fp32", ("exp_avg", "exp_avg_sq")
STATES = (WEIGHT, *MOMENTS)
"""What an optimizer keeps of each parameter, in the words of DeepSpeed's universal format."""


class Engine:
    """This rank's share of a model under DeepSpeed: whole layers, ZeRO 0-3, tensor parts.

    Args:
        config: `model`, `parallel`, `training`, `optimizer` and `run.seed` are read.
        groups: The layout's process groups.
        device: Where this rank computes.
        value_of: Starting values by name; without it, the config's.
    """

    def __init__(
        self,
        config: TrainConfig,
        groups: Groups,
        device: torch.device,
        *,
        value_of: ValueOf | None = None,
    ) -> None:
        precision = config.training.precision
        if precision == "fp16" and device.type == "cpu":
            raise ConfigError("training.precision = 'fp16' needs a GPU: set 'bf16' or 'fp32'")
        backend.connect()
        self.config, self.groups, self.device = config, groups, device
        self.dtype = DTYPES[precision]
        self._zero_stage = groups.layout.zero_stage
        # Without ZeRO DeepSpeed hands the step to the plain optimizer and tells no gradient
        # norm: then we clip, and note it, ourselves.
        self._clips_here = self._zero_stage == 0
        self._grad_norm: float | None = None
        self._loss = loss_of(config.model.head, groups)
        self.model = skeleton(config.model, groups)
        if value_of is not None:
            self._fill(value_of)
        else:
            with starting_values(config.model, seed=config.run.seed) as value_of:
                self._fill(value_of)
        optimizer = adamw(self.model, config.optimizer)
        if self._clips_here:
            optimizer.register_step_pre_hook(self._clip_gradients)
        with backend.silenced():
            self._engine = self._under_deepspeed(optimizer)

    def _under_deepspeed(self, optimizer: torch.optim.Optimizer) -> Any:
        return backend.deepspeed.initialize(
            model=self.model, optimizer=optimizer, config=self._settings(), mpu=self._unit()
        )[0]

    def _unit(self) -> TensorUnit | None:
        return TensorUnit() if self.groups.data is not None else None

    def _fill(self, value_of: ValueOf) -> None:
        # DeepSpeed would cast to its dtype at once; without ZeRO the weights stay fp32.
        dtype = self.dtype if self._zero_stage else torch.float32
        for piece in pieces(self.model):
            materialise(piece, value_of, self.groups, self.device, dtype)
            if self._zero_stage == 3:
                # Now, so that no rank ever holds more than one whole piece.
                with backend.silenced():
                    backend.deepspeed.zero.Init(
                        module=piece[1],
                        data_parallel_group=self.groups.data,
                        config_dict_or_path=self._settings(),
                        dtype=dtype,
                        mpu=self._unit(),
                    )

    def _settings(self) -> dict[str, Any]:
        training, precision = self.config.training, self.config.training.precision
        zero = self._zero_stage > 0
        return {
            "train_micro_batch_size_per_gpu": training.micro_batch_sequences,
            "gradient_accumulation_steps": self.num_micro_batches,
            "gradient_clipping": 0.0 if self._clips_here else self.config.optimizer.max_grad_norm,
            # ZeRO's buckets are sized for GPUs with room; a bucket per billion parameters
            # would double a small model's memory on a CPU.
            "zero_optimization": {"stage": self._zero_stage, "reduce_bucket_size": 50_000_000},
            "zero_allow_untested_optimizer": True,
            # ZeRO keeps fp32 weights beside its bf16 ones. Without ZeRO DeepSpeed's bf16 has
            # none, and small updates would be rounded away: there the weights stay fp32 and
            # the products are cast.
            # Gradients go to fp32 as each comes: DeepSpeed's other way, after the backward pass,
            # loses some in every pipeline stage but the last.
            "bf16": {"enabled": precision == "bf16" and zero, "immediate_grad_update": True},
            "torch_autocast": {"enabled": precision == "bf16" and not zero, "dtype": "bfloat16"},
            "fp16": {"enabled": precision == "fp16"},
            "data_types": {"grad_accum_dtype": "fp32"} if precision != "fp16" else {},
            "communication_data_type": "fp32",
            "steps_per_print": 10**12,
            "wall_clock_breakdown": False,
            # Halving what tensor neighbours send to the next stage gives wrong numbers where
            # they already hold different tokens.
            "pipeline": {"pipe_partitioned": False, "grad_partitioned": False},
        }

    @property
    def num_micro_batches(self) -> int:
        """Micro-batches that this rank, or its pipeline, takes in one step."""
        return micro_batches_per_step(self.config, self.groups.layout)

    def train_step(
        self, batches: Sequence[MicroBatch], *, weight: float, learning_rate: float
    ) -> Tensor:
        """Add up gradients over the micro-batches and all ranks, then update the weights.

        Args:
            batches: This data share's micro-batches, the same on all its ranks.
            weight: Supervised tokens, as they are weighted, of the whole step: the loss
                that is minimised is the sum over all of them divided by it.
            learning_rate: Of this update.

        Returns:
            The sum of this data share's losses, not divided; zero on ranks that work none
            out (`groups.computes_loss` says which count).
        """
        self._engine.train()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for batch in batches:
            loss = micro_batch_loss(self._engine, self._loss, batch, self.device)
            # Over all ranks and micro-batches the shares add up to the step's loss. DeepSpeed
            # would average over ranks and accumulation: both divisions are taken back.
            share = loss * (self.groups.layout.data / weight)
            self._engine.backward(share, scale_wrt_gas=False)
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
            norm = backend.clip_grad_norm_(self.model.parameters(), clip, mpu=self._unit())
        self._grad_norm = float(norm)

    @property
    def grad_norm(self) -> float | None:
        """Global gradient norm of the last step, before clipping.

        Infinite or not a number where a gradient was. DeepSpeed then skips the update in fp16
        and fp32, and makes it in bf16.
        """
        norm = self._grad_norm if self._clips_here else self._engine.get_global_grad_norm()
        if norm is None:
            return None
        # DeepSpeed's helpers report a norm that is not finite as -1.
        return float(norm) if not norm < 0 else math.inf

    def has_finite_state(self) -> bool:
        """Whether all weights and moments that this rank holds are finite. Nothing is sent."""
        optimizer = self._plain_optimizer()
        values = [*self._optimized(), *self.model.parameters()]
        values += [
            value
            for moments in optimizer.state.values()
            for name, value in moments.items()
            if name in MOMENTS
        ]
        # ZeRO-3 keeps a rank's part of a weight beside the parameter, which is then empty.
        values += [
            part for value in values if (part := getattr(value, "ds_tensor", None)) is not None
        ]
        # The largest magnitude needs no second tensor of the size.
        largest = [
            torch.linalg.vector_norm(value.detach(), math.inf) for value in values if value.numel()
        ]
        return not largest or bool(torch.stack([x.double() for x in largest]).isfinite().all())

    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters of this rank's share by their names in the whole model."""
        module: nn.Module = self.model
        return dict(module.named_parameters())

    def whole_size(self, parameter: nn.Parameter) -> torch.Size:
        """A parameter's size in the whole model."""
        size = list(_shape(parameter))
        if (dim := cut_dim(parameter)) is not None:
            size[dim] *= self.groups.layout.tensor
        return torch.Size(size)

    @contextmanager
    def unpartitioned(self, parameters: Sequence[nn.Parameter]) -> Generator[None, None, None]:
        """Within the block ZeRO-3 holds these whole on every rank (all data ranks enter it)."""
        if self._zero_stage < 3:
            yield
        else:
            with backend.deepspeed.zero.GatheredParameters(list(parameters)):
                yield

    def states(self) -> Iterator[tuple[str, str, Tensor]]:
        """Parameter name, one of `STATES` and its whole tensor, for all of this rank's share.

        One tensor at a time is whole above the shards; every rank of a pipeline stage must
        walk the stream to its end.
        """
        self._link_moments()
        for name, parameter in self.parameters().items():
            for state in STATES:
                value = self._state_of(parameter, state)
                yield name, state, whole_of(value, parameter, self.groups)

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
        return found.view(_shape(parameter))

    def _link_moments(self) -> None:
        if self._zero_stage in (1, 2):
            # ZeRO links parameters to their moments once, after the step of its first group,
            # when the second group has none yet.
            self._engine.optimizer._hp_optimizer_states_linked = False
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()

    @torch.no_grad()
    def restore(self, read: Callable[[str, str], Tensor], *, step: int) -> None:
        """Take weights and optimizer state from whole tensors, whatever layout wrote them.

        Args:
            read: A whole tensor by parameter name and one of `STATES`.
            step: Updates that the state has seen.
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
                part = part_of(read(name, state), parameter, self.groups).to(self.device)
                self._set_state(parameter, state, part)

    def _plain_optimizer(self) -> Any:
        """torch's optimizer, which DeepSpeed's wraps under ZeRO."""
        optimizer = self._engine.optimizer
        return optimizer if self._zero_stage == 0 else optimizer.optimizer

    def _optimized(self) -> list[Tensor]:
        """This rank's tensors that the optimizer updates: under ZeRO fp32 flat pieces."""
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
        """Where fp16's loss scaling stands; empty in other precisions."""
        if self.config.training.precision != "fp16":
            return {}
        scaler = vars(self._engine.optimizer.loss_scaler)
        return {name: value for name, value in scaler.items() if isinstance(value, int | float)}

    def set_loss_scale(self, state: Mapping[str, bool | int | float]) -> None:
        """Go on with an earlier life's loss scaling."""
        if state:
            vars(self._engine.optimizer.loss_scaler).update(state)

    def close(self) -> None:
        """Let go of DeepSpeed and of the model."""
        self._engine.destroy()
        del self._engine
        backend.disconnect()


def _shape(parameter: nn.Parameter) -> torch.Size:
    return getattr(parameter, "ds_shape", parameter.shape)
