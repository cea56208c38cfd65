"""Loads saved models for sampling and evaluation: whole, on one device, for inference.

    generator, tokenizer = load_generator("runs/demo/generator/checkpoints/step_400", device)

A source is a checkpoint folder, a Hugging Face folder or a hub id. The loaders are called by
each rank alone; before them all ranks `check` the sources together.
"""

from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from parallel.ranks import Ranks
from training.config.values import HeadKind
from training.data import matching, tokenizer
from training.data.tokenizer import Tokenizer
from training.errors import CheckpointError, UserError
from training.models import huggingface
from training.models.build import WEIGHTS, fingerprint, weights_folder
from training.models.heads import LanguageModel, Verifier
from training.models.shape import ModelShape

__all__ = [
    "check",
    "computing_with",
    "fingerprint",
    "inference_dtype",
    "load_generator",
    "load_verifier",
    "names",
    "shape_of",
    "verify",
]


def inference_dtype(device: torch.device) -> torch.dtype:
    """bf16 where the device computes in it; fp32 elsewhere: a CPU is slower in bf16."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float32


def load_generator(
    source: str, device: torch.device, *, prompt_template: str = ""
) -> tuple[LanguageModel, Tokenizer]:
    """A generator and its tokenizer.

    Args:
        source: Where it is.
        device: Where it is loaded to.
        prompt_template: How questions become its prompts; empty: as it was trained.

    Raises:
        UserError: it has no tokenizer, or is no generator that can be loaded.
        FileNotFoundError: there is nothing there.
    """
    folder = weights_folder(source)
    shape_of(source, "language_model")
    model = huggingface.load_language_model(folder, device=device, dtype=inference_dtype(device))
    found = _tokenizer(folder)
    return model.eval(), found.with_template(prompt_template) if prompt_template else found


def load_verifier(source: str, device: torch.device) -> tuple[Verifier, Tokenizer]:
    """A verifier and its tokenizer. Raises as `load_generator`, and for a generator's folder."""
    folder = weights_folder(source)
    # A generator would get a fresh head, and scores that mean nothing.
    shape_of(source, "verifier")
    model = huggingface.load_verifier(folder, device=device, dtype=inference_dtype(device))
    return model.eval(), _tokenizer(folder)


def shape_of(source: str, expected: HeadKind) -> ModelShape:
    """A saved model's shape; its weights are looked for, not read. Raises as the loaders."""
    with huggingface.WeightFolder(weights_folder(source)) as weights:
        kind, shape = weights.kind, weights.shape
    if kind != expected:
        kinds = {"language_model": "a generator", "verifier": "a verifier"}
        raise CheckpointError(f"{source} holds {kinds[kind]}, not {kinds[expected]}")
    return shape


def check(models: Iterable[tuple[str, HeadKind]], ranks: Ranks) -> None:
    """Refuse saved models that cannot be used before one is loaded (all ranks call it).

    The files of a checkpoint or an export are compared with its manifest; the ranks share them.

    Args:
        models: Source and what it has to hold; an empty source is left out.
        ranks: The processes that are going to load them.

    Raises:
        UserError: on all ranks: a file is damaged, or the loaders would refuse the model.
        FileNotFoundError: there is nothing there.
    """
    for source, expected in models:
        if source:
            verify(source, ranks)
            ranks.on_main(lambda source=source, expected=expected: _open(source, expected))


def verify(source: str, ranks: Ranks) -> None:
    """Compare a saved model's files with its manifest alone. Raises as `check`."""
    huggingface.verify(weights_folder(source), ranks=ranks)


def _open(source: str, expected: HeadKind) -> None:
    shape_of(source, expected)
    _tokenizer(weights_folder(source))


def tokenizer_of(source: str) -> Tokenizer | None:
    """The tokenizer beside a model's weights; None: it has none, or the hub does not give it.

    Raises:
        DataError: the folder's tokenizer is damaged.
    """
    folder = Path(weights_folder(source))
    if folder.is_dir():
        return Tokenizer.load(folder) if tokenizer.is_in(folder) else None
    try:
        return Tokenizer.from_source(source)
    except UserError:
        return None


def refuse_different_tokenizers(sources: Mapping[str, str]) -> None:
    """Refuse models of one stage that do not read and write the same ids.

    Args:
        sources: Setting to the model that it names.

    Raises:
        DataError: two tokenizers differ, or one is damaged.
    """
    loaded = {f"{setting} = {source}": tokenizer_of(source) for setting, source in sources.items()}
    matching.refuse_different({name: one for name, one in loaded.items() if one is not None})


def refuse_other_prompts(setting: str, prompt_template: str, sources: Mapping[str, str]) -> None:
    """Refuse generators that were trained on other prompts, or cannot make these.

    Args:
        setting: What names the template.
        prompt_template: The template; empty: as the generators were trained.
        sources: Setting to the generator that it names.

    Raises:
        ConfigError, DataError: says which.
    """
    for name, source in sources.items() if prompt_template else ():
        if found := tokenizer_of(source):
            wanted = found.with_template(prompt_template)
            matching.refuse_other_prompts(wanted, {f"{name} = {source}": found}, setting=setting)


@contextmanager
def computing_with(source: str) -> Generator[None, None, None]:
    """Name the model in the error where what is computed in the block gives no numbers.

    Raises:
        CheckpointError: its logits are not finite, though its weights are.
    """
    try:
        yield
    except FloatingPointError as error:
        raise CheckpointError(f"{source}: {error}; name another checkpoint") from error


def names(sources: Sequence[str]) -> list[str]:
    """What to call the models: `step_400`; the whole source where that is not enough."""
    folders = [Path(source) for source in sources]
    short = [folder.parent.name if folder.name == WEIGHTS else folder.name for folder in folders]
    counts = Counter(short)
    return [
        name if counts[name] == 1 else source for name, source in zip(short, sources, strict=True)
    ]


def _tokenizer(folder: str) -> Tokenizer:
    return Tokenizer.load(Path(folder)) if Path(folder).is_dir() else Tokenizer.from_source(folder)
