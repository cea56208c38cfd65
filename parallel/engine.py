"""DeepSpeed as the engine: ZeRO, mixed precision, accumulation, sharded state.

The one module that imports deepspeed. It takes a plain torch model and gives back an
`Engine` that sums gradients over ranks, steps, saves and loads its shards, and lends out
whole parameters.

    engine = Engine(model, config=config, ranks=ranks, device=device)
    engine.backward(loss_sum / global_supervised_tokens)   # once per micro-batch
    engine.step(learning_rate)
    engine.close()
"""

import contextlib
import gc
import io
import os
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from parallel.ranks import Ranks
from training.config import ConfigError, TrainConfig
from training.optimizer import adamw

if not torch.cuda.is_available():
    # Said here, DeepSpeed does not warn about having to find it out.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "warning")

import deepspeed  # noqa: E402
import deepspeed.comm.comm  # noqa: E402
import deepspeed.ops  # noqa: E402
from deepspeed.utils import logger  # noqa: E402

logger.setLevel("WARNING")
# It calls collectives by names that newer torch calls old, once per rank and kind.
warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")

_SHARDS = "engine"


class Engine:
    """A model under DeepSpeed, data-parallel over all ranks.

    Args:
        model: Plain model with its starting weights, the same on every rank.
        config: `parallel`, `training` and `optimizer` are read.
        ranks: The processes of the run, connected.
        device: Where this rank computes.
    """

    def __init__(
        self, model: nn.Module, *, config: TrainConfig, ranks: Ranks, device: torch.device
    ) -> None:
        # Its CPU all-reduce over shared memory is compiled at first use, for half a minute;
        # gloo does the same work.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        deepspeed.init_distributed(dist_init_required=False, verbose=False)
        self._ranks = ranks
        self.zero_stage = config.parallel.zero_stage
        precision = config.training.precision
        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[
            precision
        ]
        if precision == "fp16" and device.type == "cpu":
            raise ConfigError("training.precision = 'fp16' needs a GPU: set 'bf16' or 'fp32'")
        model = model.to(device)
        optimizer = adamw(model, config.optimizer)
        self._grad_norm: float | None = None
        # Without ZeRO DeepSpeed hands the step to the plain optimizer and tells no gradient
        # norm: then we clip, and note it, ourselves.
        self._clips_here = self.zero_stage == 0
        if self._clips_here:
            clip = config.optimizer.clip_norm or float("inf")

            def clip_gradients(*_: Any) -> None:
                norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
                self._grad_norm = float(norm)

            optimizer.register_step_pre_hook(clip_gradients)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its memory use, unasked
            self._engine: Any = deepspeed.initialize(
                model=model, optimizer=optimizer, config=self._settings(config)
            )[0]
        self.module: nn.Module = self._engine.module

    def _settings(self, config: TrainConfig) -> dict[str, Any]:
        training, precision = config.training, config.training.precision
        return {
            "train_micro_batch_size_per_gpu": training.micro_batch_rows,
            "gradient_accumulation_steps": micro_batches_per_step(config, self._ranks.world_size),
            "gradient_clipping": 0.0 if self._clips_here else config.optimizer.clip_norm,
            # ZeRO's buckets are sized for GPUs with room; a bucket per billion parameters
            # would double a small model's memory on a CPU.
            "zero_optimization": {"stage": self.zero_stage, "reduce_bucket_size": 50_000_000},
            "zero_allow_untested_optimizer": True,
            # ZeRO keeps fp32 weights beside its bf16 ones. Without ZeRO DeepSpeed's bf16 has
            # none, and small updates would be rounded away: there the weights stay fp32 and
            # the products are cast.
            "bf16": {"enabled": precision == "bf16" and self.zero_stage > 0},
            "torch_autocast": {
                "enabled": precision == "bf16" and self.zero_stage == 0,
                "dtype": "bfloat16",
            },
            "fp16": {"enabled": precision == "fp16"},
            "data_types": {"grad_accum_dtype": "fp32"} if precision != "fp16" else {},
            "communication_data_type": "fp32",
            "steps_per_print": 10**12,
            "wall_clock_breakdown": False,
        }

    def __call__(self, *arguments: Any, **keywords: Any) -> Tensor:
        """Run the model forward."""
        return self._engine(*arguments, **keywords)

    def train(self) -> None:
        """Put the model into training mode."""
        self._engine.train()

    def backward(self, loss: Tensor) -> None:
        """Add one micro-batch's gradients.

        Args:
            loss: This rank's share of the step's loss: over all ranks and micro-batches the
                shares add up to it. DeepSpeed would average over ranks and accumulation;
                both divisions are taken back here.
        """
        self._engine.backward(loss * self._ranks.world_size, scale_wrt_gas=False)
        # Every micro-batch asks for a step; DeepSpeed takes it at the last one.
        if not self._engine.is_gradient_accumulation_boundary():
            self._engine.step()

    def step(self, learning_rate: float) -> None:
        """Update the weights with the summed gradients."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()

    @property
    def grad_norm(self) -> float | None:
        """Global gradient norm of the last step, before clipping."""
        if self._clips_here:
            return self._grad_norm
        norm = self._engine.get_global_grad_norm()
        return None if norm is None else float(norm)

    @property
    def layout(self) -> dict[str, Any]:
        """What a saved state must be resumed under."""
        return {
            "data": self._ranks.world_size,
            "zero_stage": self.zero_stage,
            "precision": str(self.dtype).removeprefix("torch."),
        }

    def save(self, folder: Path) -> None:
        """Write this rank's shards of weights and optimizer state (all ranks call it)."""
        self._engine.save_checkpoint(str(folder), tag=_SHARDS, save_latest=False)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote, from a folder whose manifest was verified.

        Raises:
            RuntimeError: DeepSpeed found no shards of this layout.
        """
        path, _ = self._engine.load_checkpoint(str(folder), tag=_SHARDS)
        if path is None:
            raise RuntimeError(f"{folder} holds no DeepSpeed state of layout {self.layout}")

    @contextmanager
    def whole(self, parameters: Sequence[nn.Parameter]) -> Generator[None, None, None]:
        """Within the block these parameters are whole on every rank (all ranks enter it)."""
        if self.zero_stage < 3:
            yield
        else:
            with deepspeed.zero.GatheredParameters(list(parameters)):
                yield

    def close(self) -> None:
        """Let go of DeepSpeed's hold on the process group: else the exit can abort."""
        self._engine.destroy()
        del self._engine
        deepspeed.comm.comm.cdb = None
        gc.collect()


def micro_batches_per_step(config: TrainConfig, world_size: int) -> int:
    """Gradient accumulation: micro-batches of one rank in one step."""
    return config.training.global_batch_rows // (config.training.micro_batch_rows * world_size)
