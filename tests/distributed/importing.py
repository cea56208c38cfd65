"""Each rank: start from given weights, train, and note what was alive meanwhile.

    importing.py CONFIG.json...        one run after the other on the same ranks

Into each run folder goes `alive_RANK.json`, the fields of `Noted`.
"""

import sys
from dataclasses import asdict, dataclass
from typing import Any

from parallel import engine as engines
from parallel.engine import Engine
from parallel.gather import whole_weights
from parallel.ranks import Ranks, discover
from parallel.sharding import ValueOf, pieces
from tests.distributed.alive import Alive, held_bytes
from training.config import TrainConfig, load
from training.files import write_json
from training.lifecycle.signals import StopSignal
from training.models.build import empty_model
from training.trainer import Trainer


@dataclass(kw_only=True)
class Noted:
    """Bytes, of fp32 weights, of one rank."""

    whole: int
    """The whole model."""
    largest_piece: int
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


def main(ranks: Ranks, config: TrainConfig) -> None:
    """One run."""
    whole = empty_model(config.model, "meta")
    noted = Noted(
        whole=sum(value.nbytes for value in whole.parameters()),
        largest_piece=max(
            sum(value.nbytes for value in piece.parameters()) for _, piece in pieces(whole)
        ),
        largest_tensor=max(value.nbytes for value in whole.parameters()),
    )
    fill, materialise = Engine._fill, engines.materialise

    def noting_fill(self: Engine, value_of: ValueOf) -> None:
        def noting_materialise(*arguments: Any) -> None:
            materialise(*arguments)
            noted.not_yet_shared = max(noted.not_yet_shared, held_bytes(self.model.parameters()))

        engines.materialise = noting_materialise
        with Alive() as alive:
            fill(self, value_of)
        noted.filling = alive.peak_bytes
        noted.share = held_bytes(
            getattr(value, "ds_tensor", value) for value in self.parameters().values()
        )

    Engine._fill = noting_fill
    try:
        with Trainer(config, ranks, StopSignal(ranks)) as trainer:
            trainer.run()
            with Alive(waits=True) as alive:
                for _ in whole_weights(trainer._engine):
                    pass
            noted.gathering = alive.peak_bytes
    finally:
        Engine._fill, engines.materialise = fill, materialise
    write_json(config.run.folder / f"alive_{ranks.rank}.json", asdict(noted))


if __name__ == "__main__":
    me = discover()
    for path in sys.argv[1:]:
        settings = load(TrainConfig, [path])
        me.connect(me.device(settings.training.device))
        main(me, settings)
    me.disconnect()
