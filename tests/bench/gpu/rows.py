"""Random packed rows shaped like TinyGSM's: documents of about 150 tokens, 45 % supervised.

They are packed by the project's own packing. `training.data.loader` would lay them out,
but needs megatron-core for its files; a machine with a GPU may have none.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tests.bench.gpu.setting import Setting
from tests.metrics import step_counts
from training.config import TrainConfig
from training.data.pack import best_fit
from training.monitoring.metrics import StepCounts

SUPERVISED_SHARE = 0.45
"""Program tokens among all, as in TinyGSM; the questions are context."""
IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class Rows:
    """One micro-batch on the CPU; tensors are `[rows, sequence_length]`."""

    tokens: Tensor
    positions: Tensor
    document_ids: Tensor
    labels: Tensor
    """The next token, -100 where it is not supervised."""
    lengths: tuple[int, ...]
    """Tokens of each document."""

    @property
    def supervised(self) -> Tensor:
        return self.labels != IGNORED

    @property
    def weights(self) -> Tensor:
        return torch.ones(self.labels.shape)

    @property
    def num_supervised(self) -> int:
        return int(self.supervised.sum())

    @property
    def labels_in_place(self) -> Tensor:
        """Labels at the token itself, as transformers wants them: it shifts them."""
        return torch.cat((torch.full_like(self.labels[:, :1], IGNORED), self.labels[:, :-1]), dim=1)


def micro_batches(
    setting: Setting, config: TrainConfig, *, count: int, rows: int, seed: int = 0
) -> list[Rows]:
    """`count` micro-batches of `rows` rows each, the same for the same seed."""
    random = np.random.default_rng(seed)
    sequence_length, mean = config.data.sequence_length, setting.document_tokens
    # A tenth more documents than fit: the rows that stay half empty are left out.
    num_documents = int(1.1 * count * rows * sequence_length / mean) + 2 * sequence_length // mean
    lengths = np.clip(random.normal(mean, mean / 4, num_documents), mean // 3, 2.5 * mean)
    sizes: list[int] = lengths.astype(int).tolist()
    packed = [[sizes[i] for i in row] for row in best_fit(sizes, sequence_length)]
    packed = sorted(packed, key=sum, reverse=True)[: count * rows]
    order = random.permutation(len(packed))
    return [
        _laid_out([packed[i] for i in chosen], config, random)
        for chosen in order.reshape(count, rows).tolist()
    ]


def _laid_out(documents: list[list[int]], config: TrainConfig, random: np.random.Generator) -> Rows:
    shape = (len(documents), config.data.sequence_length)
    tokens = torch.zeros(shape, dtype=torch.long)
    positions, document_ids = torch.zeros_like(tokens), torch.full_like(tokens, -1)
    labels = torch.full_like(tokens, IGNORED)
    for row, lengths in enumerate(documents):
        start = 0
        for number, length in enumerate(lengths):
            end = start + length
            drawn = random.integers(0, config.model.vocab_size, length)
            tokens[row, start:end] = torch.from_numpy(drawn)
            positions[row, start:end] = torch.arange(length)
            document_ids[row, start:end] = number
            first = end - round(SUPERVISED_SHARE * length)
            labels[row, first - 1 : end - 1] = tokens[row, first:end]
            start = end
    return Rows(
        tokens=tokens,
        positions=positions,
        document_ids=document_ids,
        labels=labels,
        lengths=tuple(length for row in documents for length in row),
    )


def counts(batches: list[Rows]) -> StepCounts:
    """What these micro-batches hold together."""
    return step_counts(
        [length for batch in batches for length in batch.lengths],
        supervised=sum(batch.num_supervised for batch in batches),
        capacity_tokens=sum(batch.tokens.numel() for batch in batches),
    )
