"""The training engine with pipeline parallelism, under DeepSpeed's `PipelineModule`.

Each pipeline stage is one layer to DeepSpeed: consecutive blocks, with the embedding before the
first and the head after the last (`layout.stage_blocks` balances them). Stages pass on activations
only: every rank has the step's micro-batches, and takes positions and borders from its own. The
schedule is DeepSpeed's 1F1B, in which every stage sees the micro-batches in their order. Where the
embedding is the head as well, the first and the last stage both have it, and add their gradients.
`parallelize.py` chooses this engine where there are several stages.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from parallel import backend, settings
from parallel.engine import Engine
from training.data.micro_batch import MicroBatch
from training.models.attention import PackedAttention
from training.models.heads import LanguageModel, Verifier

Expected = tuple[Tensor, Tensor, Tensor]
"""Positions, labels and weights of the supervised tokens, `[supervised]` each."""


class PipelineEngine(Engine):
    """One pipeline stage, stepped together with the other stages."""

    _loss_normalizer: float
    _total: Tensor
    _stage: "_Stage"

    def _initialize(self, optimizer: torch.optim.Optimizer) -> Any:
        layout = self.groups.layout
        self._stage = _Stage(self.model, is_first=self.groups.place.stage == 0)
        module = backend.PipelineModule(
            # One entry per stage; DeepSpeed uses only the entry of this rank's stage.
            layers=[self._stage] * layout.pipeline,
            topology=backend.PipeModelDataParallelTopology(
                num_pp=layout.pipeline, num_mp=layout.tensor, num_dp=layout.data
            ),
            loss_fn=self._loss_of_stage,
            partition_method="uniform",
        )
        if self.groups.embedding is not None and self.config.model.embedding_is_head:
            backend.tie(
                module,
                self.model.body.embedding,
                group=self.groups.embedding,
                is_owner=self.groups.place.stage == 0,
            )
        return backend.deepspeed.initialize(
            model=module, optimizer=optimizer, config=settings.for_deepspeed(self.config, layout)
        )[0]

    def train_step(
        self, batches: Sequence[MicroBatch], *, loss_normalizer: float, learning_rate: float
    ) -> Tensor:
        """See `Engine.train_step`; the last stage computes the loss."""
        self._loss_normalizer = loss_normalizer
        self._total = torch.zeros((), dtype=torch.float64, device=self.device)
        self._set_learning_rate(learning_rate)
        there = [batch.to(self.device) for batch in batches]
        self._stage.batches = iter(there)
        self._engine.train_batch(
            (batch.tokens, (batch.supervised, batch.labels, batch.weights)) for batch in there
        )
        return self._total

    def _loss_of_stage(self, hidden: Tensor, expected: Expected) -> Tensor:
        at, labels, weights = expected
        loss = self._loss(self.model.predict(hidden, at), labels, weights)
        self._total += loss.detach()
        # DeepSpeed averages over ranks and micro-batches: the factor undoes both.
        factor = self.groups.layout.data * self.num_micro_batches / self._loss_normalizer
        return loss * factor


class _Stage(nn.Module):
    """One stage of a model as DeepSpeed calls it, once for each micro-batch."""

    def __init__(self, model: LanguageModel | Verifier, *, is_first: bool) -> None:
        super().__init__()
        self.model, self._is_first = model, is_first
        self.batches: Iterator[MicroBatch] = iter(())
        """The micro-batches of the step that are still to come."""

    def forward(self, hidden: Tensor) -> Tensor:
        """From tokens `[sequences, tokens]` or the previous stage's activations to this stage's."""
        batch, body = next(self.batches), self.model.body
        if self._is_first:
            hidden = body.embedding(hidden)
        attention = PackedAttention(batch.borders, longest=batch.tokens.shape[1])
        hidden = body.run(hidden, batch.positions, attention)
        if hasattr(body, "final_norm"):
            hidden = body.final_norm(hidden)
        return hidden
