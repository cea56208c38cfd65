"""Random packed sequences shaped like TinyGSM's: documents of about 150 tokens, 45 % supervised.

The project's own code packs them and lays them out.
"""

import numpy as np
import torch
from torch import Tensor

from tests.bench.gpu.setting import Setting
from training.config import TrainConfig
from training.data.micro_batch import Batch, collate
from training.data.pack import Mode, PackedSequence, best_fit
from training.monitoring.metrics import StepCounts

SUPERVISED_FRACTION = 0.45
"""Program tokens among all, as in TinyGSM; the questions are context."""


def micro_batches(
    setting: Setting, config: TrainConfig, *, count: int, sequences: int, seed: int = 0
) -> list[Batch]:
    """`count` micro-batches of `sequences` sequences each, the same for the same seed."""
    random = np.random.default_rng(seed)
    sequence_length, mean = config.data.sequence_length, setting.document_tokens
    # A tenth more documents than fit: the sequences that stay half empty are left out.
    num_tokens = count * sequences * sequence_length
    num_documents = int(1.1 * num_tokens / mean) + 2 * sequence_length // mean
    lengths = np.clip(random.normal(mean, mean / 4, num_documents), mean // 3, 2.5 * mean)
    sizes: list[int] = lengths.astype(int).tolist()
    packed = [[sizes[i] for i in chosen] for chosen in best_fit(sizes, sequence_length)]
    packed = sorted(packed, key=sum, reverse=True)[: count * sequences]
    order = random.permutation(len(packed))
    return [
        collate(
            [_sequence(packed[i], config.model.vocab_size, random) for i in chosen],
            sequence_length=sequence_length,
            head="language_model",
            most_examples=max(map(len, packed)),
        )
        for chosen in order.reshape(count, sequences).tolist()
    ]


def _sequence(documents: list[int], vocab_size: int, random: np.random.Generator) -> PackedSequence:
    sizes = np.array(documents, np.int64)
    programs = np.round(SUPERVISED_FRACTION * sizes).astype(np.int64)
    return PackedSequence(
        tokens=random.integers(0, vocab_size, sum(documents)),
        lengths=np.stack([sizes - programs, programs], axis=1).ravel(),
        modes=np.tile(np.array([Mode.CONTEXT, Mode.SUPERVISED], np.int64), len(documents)),
    )


def labels_in_place(batch: Batch) -> Tensor:
    """Labels at the token itself, as transformers wants them: it shifts them. -100: none."""
    labels = torch.full_like(batch.tokens, -100)
    labels.view(-1)[batch.supervised + 1] = batch.labels
    return labels


def counts(batches: list[Batch]) -> StepCounts:
    """What these micro-batches hold together."""
    return StepCounts(
        tokens=sum(batch.num_tokens for batch in batches),
        supervised=sum(batch.num_supervised for batch in batches),
        keys=sum(batch.num_attended for batch in batches),
        capacity_tokens=sum(batch.tokens.numel() for batch in batches),
    )
