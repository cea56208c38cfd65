"""What the parts of the benchmark train on: problems prepared as the demo's config does."""

from pathlib import Path

import torch
from torch import Tensor

from tests.bench.gpu.setting import ROOT
from training.config import PrepareConfig, TrainConfig, load
from training.data.dataset import SequenceDataset
from training.data.loader import Loader
from training.data.micro_batch import Batch
from training.data.prepare import prepare
from training.data.step_batches import keeps_padding

CONFIG = ROOT / "configs/generator_demo.toml"
CPU = torch.device("cpu")
LEARNING_RATE = 1e-4
"""Constant."""

LARGER = ("model.hidden_size=384", "model.num_heads=6", "model.ffn_size=1536")
"""Ten times the parameters of the demo's model."""


def settings(folder: Path, examples: int) -> list[str]:
    """Overrides of the demo's config that every part has, so that a peer can do the same."""
    return [
        f"data.folder={folder / f'data_{examples}'}",
        f"data.sources.0.num_examples={examples}",
        "training.prompt_loss_weight=1",
        "training.device=cpu",
        "data.prepare_if_missing=false",
    ]


def prepared(folder: Path, examples: int, *overrides: str) -> TrainConfig:
    """The demo's config with these overrides; its data is made where it is missing."""
    config = load(TrainConfig, [CONFIG], [*settings(folder, examples), *overrides])
    prepare(PrepareConfig(data=config.data, execution=config.execution))
    return config


def steps_of(
    config: TrainConfig, count: int, *, rank: int = 0, world_size: int = 1
) -> list[list[Batch]]:
    """A rank's micro-batches of each of the first updates."""
    dataset = SequenceDataset(config.data.folder, sequence_length=config.data.sequence_length)
    loader = Loader(
        dataset,
        seed=0,
        global_batch_sequences=config.training.global_batch_sequences,
        micro_batch_sequences=config.training.sequences_at_a_time,
        rank=rank,
        world_size=world_size,
        head="language_model",
        padded=keeps_padding(config, CPU),
    )
    try:
        return [loader.next_step() for _ in range(count)]
    finally:
        loader.close()


def examples_of(batch: Batch) -> list[Tensor]:
    """The tokens of each example."""
    ids, tokens = batch.document_ids, batch.tokens
    return [tokens[ids == number] for number in range(batch.num_examples)]
