"""From a config and process groups to a training engine: everything parallel, in one order.

    engine = parallelize(config, groups, device)
    loss = engine.train_step(batches, loss_normalizer=supervised, learning_rate=1e-4)

`shard_model` is its first half, without values and without DeepSpeed: plans use it by itself.
"""

import functools
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import nn

from parallel import settings
from parallel.groups import Groups, TensorUnit
from parallel.layout import stage_blocks
from parallel.sharding import ValueOf, materialise, modules_to_shard
from training.config import ModelConfig, TrainConfig
from training.losses import Loss, language_model_loss, verifier_loss
from training.models.build import empty_model, starting_values
from training.models.heads import LanguageModel, Verifier

if TYPE_CHECKING:
    from parallel.engine import Engine


def parallelize(
    config: TrainConfig,
    groups: Groups,
    device: torch.device,
    *,
    value_of: ValueOf | None = None,
) -> "Engine":
    """Build this rank's part of the model and put it under DeepSpeed (all ranks call it).

    Args:
        config: `model`, `parallel`, `training`, `optimizer` and `run.seed` are read.
        groups: The layout's process groups.
        device: Where this rank computes.
        value_of: Initial values by name; default: the config's.

    Raises:
        ConfigError: `training.precision` does not suit the device, or `model.initial_weights`
            are of another shape.
        FileNotFoundError: `model.initial_weights` names nothing.
    """
    # DeepSpeed takes seconds to import.
    from parallel import backend
    from parallel.engine import Engine
    from parallel.pipeline import PipelineEngine

    settings.check_precision(config.training, device.type)
    backend.connect(groups.ranks.timeout)
    # 1. Pipeline and tensor parallelism; blocks recompute activations as the config says.
    model = shard_model(config.model, groups)
    # 2. Values, and ZeRO-3's sharding, one module at a time.
    with (
        nullcontext(value_of)
        if value_of is not None
        else starting_values(config.model, seed=config.run.seed)
    ) as initial_value_of:
        fill_parameters(model, initial_value_of, config, groups, device)
    # 3. Compilation, of a block at a time.
    if config.training.compile:
        model.body.compile_blocks()
    # 4. The optimizer, ZeRO and the pipeline's schedule.
    engine_type = PipelineEngine if groups.layout.pipeline > 1 else Engine
    return engine_type(config, groups, device, model=model, loss=loss_of(config.model.head, groups))


def shard_model(config: ModelConfig, groups: Groups) -> LanguageModel | Verifier:
    """This rank's part of the model on the meta device: no values, no memory."""
    model = empty_model(config, "meta")
    _keep_pipeline_stage(model, config, groups)
    if groups.tensor is not None:
        from parallel.tensor import shard_modules  # megatron-core takes seconds to import

        shard_modules(model, config.head, groups)
    return model


def _keep_pipeline_stage(
    model: LanguageModel | Verifier, config: ModelConfig, groups: Groups
) -> None:
    """Remove the modules of the other pipeline stages."""
    stage, last = groups.place.stage, groups.layout.pipeline - 1
    for number in set(range(config.num_layers)) - set(stage_blocks(config, last + 1)[stage]):
        del model.body.blocks[str(number)]
    # The last stage has its own copy of an embedding that is the head too; see pipeline.py.
    if stage > 0 and not (stage == last and config.embedding_is_head):
        del model.body.embedding
    if stage < last:
        del model.body.final_norm
        if not config.embedding_is_head:
            del model.head


def fill_parameters(
    model: nn.Module,
    value_of: ValueOf,
    config: TrainConfig,
    groups: Groups,
    device: torch.device,
) -> None:
    """Give every parameter this rank's shard of its value.

    No rank holds more than one module of `modules_to_shard` unsharded.
    """
    from parallel import backend  # DeepSpeed takes seconds to import

    dtype = settings.weights_dtype(config, groups.layout)
    for prefix, module in modules_to_shard(model):
        materialise(prefix, module, value_of, groups, device, dtype)
        if groups.layout.zero_stage == 3:
            with backend.silenced():
                backend.deepspeed.zero.Init(
                    module=module,
                    data_parallel_group=groups.data,
                    config_dict_or_path=settings.for_deepspeed(config, groups.layout),
                    dtype=dtype,
                    mpu=TensorUnit.from_groups(groups),
                )


def loss_of(head: str, groups: Groups) -> Loss:
    """The loss of a head, computed from this rank's shard of the logits where they are sharded."""
    if head == "verifier":
        return verifier_loss
    if groups.tensor is None:
        return language_model_loss
    from parallel.tensor import cross_entropy  # megatron-core takes seconds to import

    return functools.partial(language_model_loss, cross_entropy=cross_entropy)
