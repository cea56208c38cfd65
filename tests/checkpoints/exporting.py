"""Small checkpoints in a run folder, as training commits them, of random weights."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from checkpoints import universal
from checkpoints.store import CheckpointStore
from parallel.ranks import ALONE
from tests.checkpoints.committing import committed
from tests.initial_values import initialise
from tests.training.evaluation import models
from training.checkpoint_paths import CHECKPOINTS, checkpoint_path
from training.models import huggingface
from training.models.build import WEIGHTS
from training.models.heads import LanguageModel, Verifier


def random_model(
    kind: type[LanguageModel] | type[Verifier], seed: int = 0, vocab_size: int = 320
) -> nn.Module:
    model = kind(models.shape(vocab_size))
    initialise(model, seed=seed, std=0.5)
    return model.eval()


def write_checkpoint(
    run: Path, model: nn.Module, step: int = 2, harm: Callable[[Path], None] | None = None
) -> Path:
    """Commit a checkpoint whose Hugging Face folder is in bf16 and its training state in fp32.

    `harm` changes the folder before its manifest is written: what then verifies was wrong
    from the start.
    """
    assert isinstance(model, LanguageModel | Verifier)
    with committed(CheckpointStore(run / CHECKPOINTS, ranks=ALONE), step) as folder:
        parameters: dict[str, nn.Parameter] = dict(model.named_parameters())
        for name, value in parameters.items():
            for state in ("fp32", "exp_avg", "exp_avg_sq"):
                path = universal.path_of(folder, name, state)
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.save({"param": value.detach().clone()}, path)
        end_token = models.tokenizer().end_token
        huggingface.save(model, folder / WEIGHTS, dtype=torch.bfloat16, end_token=end_token)
        models.tokenizer().save(folder / WEIGHTS)
        if harm:
            harm(folder)
    return checkpoint_path(run, step)


def nothing_left(folder: Path) -> bool:
    """Whether neither an exported folder nor a part of one is there."""
    return not folder.exists() and not list(folder.parent.glob(f".{folder.name}*"))
