"""Builds a model from its config, with initial values or with saved weights."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from training import manifest, verification
from training.checkpoint_paths import TRAIN_STATE
from training.config import ModelConfig
from training.errors import CheckpointError
from training.models import huggingface
from training.models.heads import LanguageModel, Verifier
from training.models.parts import initial_value
from training.models.shape import ModelShape

WEIGHTS = "huggingface"
"""Folder within a checkpoint that holds the model in Hugging Face's form."""


def weights_folder(source: str) -> str:
    """The Hugging Face folder of a checkpoint; any other folder or hub id unchanged.

    Raises:
        CheckpointError: the checkpoint is incomplete: its manifest is missing or damaged.
    """
    folder = Path(source)
    inner = folder / WEIGHTS
    checkpoint = folder if inner.is_dir() else folder.parent if folder.name == WEIGHTS else None
    if checkpoint is None or not (inner.is_dir() or (checkpoint / TRAIN_STATE).exists()):
        return source
    try:
        manifest.read(checkpoint)
    except FileNotFoundError:
        raise CheckpointError(
            f"{checkpoint} is not a complete checkpoint: it holds no {manifest.MANIFEST}. Name "
            "another one, or a folder that launch/export.py wrote"
        ) from None
    return str(inner) if inner.is_dir() else source


def fingerprint(source: str) -> str:
    """A digest of a saved model's files.

    That of a checkpoint is derived from its manifest, without reading the files; `check` in
    training/evaluation/load.py compares those with the manifest.

    Raises:
        CheckpointError: the checkpoint is incomplete.
        FileNotFoundError: there is no such folder or hub id.
    """
    folder = huggingface.resolve(weights_folder(source))
    return verification.listed_fingerprint(folder) or manifest.fingerprint(folder)


def shape_of(config: ModelConfig) -> ModelShape:
    """The model's shape according to its config."""
    return ModelShape.from_settings(config.model_dump())


def empty_model(config: ModelConfig, device: torch.device | str) -> LanguageModel | Verifier:
    """The model with uninitialised values, or without any on the meta device."""
    kind = Verifier if config.head == "verifier" else LanguageModel
    with torch.device("meta"):
        model = kind(shape_of(config), checkpoint_activations=config.recomputes)
    return model if str(device) == "meta" else model.to_empty(device=device)


def parameter_sizes(config: ModelConfig) -> dict[str, torch.Size]:
    """The size of each of the whole model's parameters."""
    model: nn.Module = empty_model(config, "meta")
    return {name: parameter.shape for name, parameter in model.named_parameters()}


def blank_values(config: ModelConfig) -> Callable[[str], Tensor]:
    """A function from a parameter's name to zeros of its whole size, which take no memory."""
    sizes = parameter_sizes(config)
    return lambda name: torch.zeros(()).expand(sizes[name])


@contextmanager
def starting_values(
    config: ModelConfig, *, seed: int
) -> Generator[Callable[[str], Tensor], None, None]:
    """Yield a function from a parameter's name to its whole initial value, for a training run.

    The values depend on the seed or on `initial_weights`, not on the number of ranks. Files are
    not compared with a checkpoint's manifest here: `huggingface.verify` does that once for all
    ranks.

    Raises:
        FileNotFoundError: `initial_weights` names no folder and no hub id.
        CheckpointError: the weights have other shapes than the model.
    """
    if config.initial_weights:
        model = empty_model(config, "meta")
        with huggingface.reading(weights_folder(config.initial_weights), model, seed=seed) as read:
            yield read
        return
    sizes = parameter_sizes(config)
    yield lambda name: initial_value(name, sizes[name], seed=seed, std=config.init_std)
