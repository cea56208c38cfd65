"""Pipeline stages under DeepSpeed's `PipelineModule`, for both heads.

    engine = build_engine(config, groups, device)      # pipelined where the layout says so

Each pipeline stage is one layer to DeepSpeed: a run of the model's own blocks, with the
embedding in front of the first and the head behind the last (`parallel/layout.py` balances
them). What travels is a tuple: activations, then positions and document borders, which
every stage's attention needs. DeepSpeed's 1F1B schedule moves the micro-batches.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from parallel import backend
from parallel.engine import Engine
from parallel.groups import Groups
from parallel.sharding import ValueOf
from training.config import TrainConfig
from training.losses import MicroBatch, supervised
from training.models.attention import PackedAttention
from training.models.heads import LanguageModel, Verifier

Travelling = tuple[Tensor, Tensor, Tensor]
"""Tokens `[rows, tokens]` or activations `[rows, tokens, hidden]`; positions; document ids."""
Labels = tuple[Tensor, Tensor, Tensor]
"""Places, labels and weights of what is supervised, `[supervised]` each."""


def build_engine(
    config: TrainConfig,
    groups: Groups,
    device: torch.device,
    *,
    value_of: ValueOf | None = None,
) -> Engine:
    """The engine of a layout."""
    kind = PipelineEngine if groups.layout.pipeline > 1 else Engine
    return kind(config, groups, device, value_of=value_of)


class PipelineEngine(Engine):
    """One pipeline stage's share of a model, stepped together with the other stages'."""

    _weight: float
    _total: Tensor

    def _under_deepspeed(self, optimizer: torch.optim.Optimizer) -> Any:
        layout = self.groups.layout
        module = backend.PipelineModule(
            # Every stage says that all layers are its own and builds only the one it has.
            layers=[_Stage(self.model)] * layout.pipeline,
            topology=backend.PipeModelDataParallelTopology(
                num_pp=layout.pipeline, num_mp=layout.tensor, num_dp=layout.data
            ),
            loss_fn=self._loss_of_stage,
            partition_method="uniform",
        )
        return backend.deepspeed.initialize(
            model=module, optimizer=optimizer, config=self._settings()
        )[0]

    def train_step(
        self, batches: Sequence[MicroBatch], *, weight: float, learning_rate: float
    ) -> Tensor:
        """See `Engine.train_step`; the last stage works out the loss."""
        self._weight = weight
        self._total = torch.zeros((), dtype=torch.float64, device=self.device)
        self._set_learning_rate(learning_rate)
        self._engine.train_batch(iter(self._micro_batches(batches)))
        return self._total

    def _micro_batches(self, batches: Sequence[MicroBatch]) -> Iterator[tuple[Travelling, Labels]]:
        for batch in batches:
            inputs = (batch.tokens, batch.positions, batch.document_ids)
            yield inputs, supervised(batch, self.device)

    def _loss_of_stage(self, hidden: Travelling, labels: Labels) -> Tensor:
        places, wanted, weights = labels
        loss = self._loss(self.model.predict(hidden[0], places), wanted, weights)
        self._total += loss.detach()
        # DeepSpeed averages over ranks and micro-batches: both divisions are taken back.
        return loss * (self.groups.layout.data * self.num_micro_batches / self._weight)


class _Stage(nn.Module):
    """A share of a model as a function of what travels between stages."""

    def __init__(self, model: LanguageModel | Verifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, travelling: Travelling) -> Travelling:
        """From tokens or the stage before to the next stage, or the head's input."""
        hidden, positions, document_ids = travelling
        body = self.model.body
        if hasattr(body, "embedding"):
            hidden = body.embedding(hidden)
        hidden = body.run(hidden, positions, PackedAttention(document_ids))
        if hasattr(body, "final_norm"):
            hidden = body.final_norm(hidden)
        return hidden, positions, document_ids
