"""What a config and its layout mean to DeepSpeed: its settings, and the dtype of weights.

Imports no DeepSpeed, so that a plan can read them as well.
"""

from typing import Any

import torch

from parallel.layout import Layout, accumulation_steps_of
from training.config import ConfigError, TrainConfig, TrainingConfig
from training.models.dtypes import DTYPES

BUCKET_ELEMENTS = 50_000_000
"""Gradients that ZeRO reduces at a time. Its default, ten times as many, is sized for GPUs with
memory to spare; on a CPU it would exceed a small model's own memory."""


def check_precision(training: TrainingConfig, device_type: str) -> None:
    """Check that the device can train in the config's precision. `auto` is any device.

    Raises:
        ConfigError: fp16 on a CPU; compiled, fp32 on a GPU, or another one on a CPU.
    """
    if training.precision == "fp16" and device_type == "cpu":
        raise ConfigError("training.precision = 'fp16' needs a GPU: set 'bf16' or 'fp32'")
    # Attention in fp32 is not compiled on a GPU; torch's CPU code for sums in bf16 does not compile
    # (2.13: conflicting declarations in its C++).
    compiled = {"cpu": ("fp32",), "cuda": ("bf16", "fp16")}.get(device_type)
    if training.compile and compiled and training.precision not in compiled:
        where = "a CPU" if device_type == "cpu" else "a GPU"
        raise ConfigError(
            f"training.compile = true with training.precision = {training.precision!r} on {where}: "
            f"set training.precision = {compiled[0]!r}, or training.compile = false"
        )


def weights_dtype(config: TrainConfig, layout: Layout) -> torch.dtype:
    """The dtype of the weights that the passes use: without ZeRO always fp32.

    ZeRO keeps fp32 weights beside its 16-bit ones. DeepSpeed's bf16 without ZeRO does not, and
    would round small updates away: there the weights are fp32 and autocast casts the products.
    """
    return DTYPES[config.training.precision] if layout.zero_stage else torch.float32


def for_deepspeed(config: TrainConfig, layout: Layout) -> dict[str, Any]:
    """DeepSpeed's settings, a new dictionary at each call: DeepSpeed may change it."""
    training, precision, zero = config.training, config.training.precision, layout.zero_stage > 0
    in_bf16 = config.parallel.reduce_dtype == "bf16"
    return {
        "train_micro_batch_size_per_gpu": training.sequences_at_a_time,
        "gradient_accumulation_steps": accumulation_steps_of(config, layout),
        # Without ZeRO the engine clips (parallel/engine.py).
        "gradient_clipping": config.optimizer.max_grad_norm if zero else 0.0,
        "zero_optimization": {
            "stage": layout.zero_stage,
            "reduce_bucket_size": BUCKET_ELEMENTS,
            "overlap_comm": in_bf16,
            **(
                {"offload_optimizer": {"device": "cpu"}}
                if config.parallel.offload_optimizer
                else {}
            ),
        },
        "zero_allow_untested_optimizer": True,
        # torch's fused AdamW runs on a CPU as well; DeepSpeed's would be compiled.
        "zero_force_ds_cpu_optimizer": False,
        # Each gradient is added to its fp32 sum at once: DeepSpeed's other way, after the
        # backward pass, loses some in every pipeline stage but the last.
        "bf16": {"enabled": precision == "bf16" and zero, "immediate_grad_update": True},
        "torch_autocast": {"enabled": precision == "bf16" and not zero, "dtype": "bfloat16"},
        "fp16": {"enabled": precision == "fp16"},
        # With fp32 sums DeepSpeed reduces ZeRO-1's gradients after the last backward pass, all at
        # once, without they are reduced bucket by bucket during it.
        "data_types": {} if in_bf16 or precision == "fp16" else {"grad_accum_dtype": "fp32"},
        "communication_data_type": config.parallel.reduce_dtype,
        "steps_per_print": 10**12,
        "wall_clock_breakdown": False,
        # It waits for the device twice in every micro-batch.
        "timers": {"throughput": {"enabled": False}},
        # Partitioning what a tensor group sends to the next pipeline stage gives wrong numbers
        # under sequence parallelism, where its ranks already hold different tokens.
        "pipeline": {"pipe_partitioned": False, "grad_partitioned": False},
    }
