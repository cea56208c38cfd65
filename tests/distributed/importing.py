# pyright: reportPrivateUsage=false
"""Each rank: start from given weights, train, and note what was alive meanwhile.

noted = run_distributed(train_all, 2, configs)        # [rank][config]
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from parallel import parallelize as parallelizing
from parallel.gather import whole_weights
from parallel.ranks import Ranks
from parallel.sharding import modules_to_shard
from tests.distributed.alive import Alive, held_bytes
from training.config import TrainConfig
from training.lifecycle.signals import StopSignal
from training.models.build import empty_model
from training.trainer import Trainer


@dataclass(kw_only=True)
class Noted:
    """Bytes, of fp32 weights, of one rank."""

    whole: int
    """The whole model."""
    largest_module: int
    """A block, the embedding or the head."""
    largest_tensor: int
    share: int = 0
    """What this rank keeps."""
    not_yet_shared: int = 0
    """Most that parameters held at once, while the engine filled itself, before ZeRO cut them."""
    filling: int = 0
    """Most that any tensors held at once meanwhile."""
    gathering: int = 0
    """Most that any tensors held at once, above all that training keeps, while whole weights
    were streamed out."""


def train_all(ranks: Ranks, configs: Sequence[TrainConfig]) -> list[Noted]:
    """One run after the other on the same ranks."""
    return [_train(ranks, config) for config in configs]


def _train(ranks: Ranks, config: TrainConfig) -> Noted:
    whole = empty_model(config.model, "meta")
    noted = Noted(
        whole=sum(value.nbytes for value in whole.parameters()),
        largest_module=max(
            sum(value.nbytes for value in module.parameters())
            for _, module in modules_to_shard(whole)
        ),
        largest_tensor=max(value.nbytes for value in whole.parameters()),
    )
    fill, materialise = parallelizing.fill_parameters, parallelizing.materialise

    def noting_fill(model: nn.Module, *arguments: Any) -> None:
        def noting_materialise(*arguments: Any) -> None:
            materialise(*arguments)
            noted.not_yet_shared = max(noted.not_yet_shared, held_bytes(model.parameters()))

        parallelizing.materialise = noting_materialise
        with Alive() as alive:
            fill(model, *arguments)
        noted.filling = alive.peak_bytes
        noted.share = held_bytes(getattr(value, "ds_tensor", value) for value in model.parameters())

    parallelizing.fill_parameters = noting_fill
    try:
        with Trainer(config, ranks, StopSignal(ranks)) as trainer:
            trainer.run()
            with Alive(waits=True) as alive:
                for _ in whole_weights(trainer._engine):
                    pass
            noted.gathering = alive.peak_bytes
    finally:
        parallelizing.fill_parameters, parallelizing.materialise = fill, materialise
    return noted
