"""A checkpoint as a whole model, read tensor by tensor, whatever layout wrote it.

    source = Source(find_checkpoint(Path("runs/demo/generator")))
    for name, value in source.tensors(torch.bfloat16): ...

Weights come from the training state (`universal.py`): whole, fp32. Shape, head and tokenizer come
from the `huggingface/` folder beside it, not from the run's `run.json`: the checkpoint's manifest
covers the former; the latter is outside of it, is written again by every attempt, and stays behind
when a checkpoint is moved.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from checkpoints import universal
from parallel.sharding import WEIGHT
from training import manifest
from training.config.values import HeadKind
from training.data.tokenizer import Tokenizer
from training.errors import CheckpointError
from training.models import huggingface
from training.models.attention import causal_attention
from training.models.build import WEIGHTS
from training.models.dtypes import name_of
from training.models.heads import LanguageModel, Verifier


class Source:
    """A verified checkpoint as a whole model, read tensor by tensor.

    Args:
        checkpoint: A committed checkpoint whose files were compared with its manifest.

    Raises:
        CheckpointError: it lacks a part, or its parts do not fit together.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.folder = checkpoint
        weights = checkpoint / WEIGHTS
        listed = set(manifest.read(checkpoint)["outputs"])
        try:
            with huggingface.WeightFolder(weights) as described:
                self.shape = described.shape
                self.kind: HeadKind = described.kind
            self.tokenizer = Tokenizer.load(weights)
        except (FileNotFoundError, ValueError) as error:
            raise CheckpointError(f"{checkpoint} cannot be exported: {error}") from error
        kind = Verifier if self.kind == "verifier" else LanguageModel
        with torch.device("meta"):
            self._empty: nn.Module = kind(self.shape)
        self.sizes = {name: value.shape for name, value in self._empty.named_parameters()}
        expected = {
            str(universal.path_of(checkpoint, name, WEIGHT).relative_to(checkpoint))
            for name in self.sizes
        }
        found = {name for name in listed if name.endswith(f"/{WEIGHT}.pt")}
        for path in weights.iterdir():
            if str(path.relative_to(checkpoint)) not in listed:
                raise CheckpointError(f"{path} is in no manifest: training did not write it")
        for names, fault in ((expected - found, "lacks"), (found - expected, "has, unexpectedly,")):
            if names:
                raise CheckpointError(
                    f"{checkpoint} is no training state of the model that {weights} describes: "
                    f"it {fault} {', '.join(sorted(names)[:4])}"
                    + (f" and {len(names) - 4} more" if len(names) > 4 else "")
                )

    @property
    def num_parameters(self) -> int:
        """Of the whole model."""
        return sum(size.numel() for size in self.sizes.values())

    def tensors(self, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
        """Every parameter by our name, rounded to `dtype`; one is held at a time.

        Raises:
            CheckpointError: a value is not finite, in the source or once rounded.
        """
        for name, size in self.sizes.items():
            try:
                value = universal.read_tensor(self.folder, name, WEIGHT, size)
            except ValueError as error:
                raise CheckpointError(str(error)) from error
            rounded = value.to(dtype)
            if not bool(torch.isfinite(rounded).all()):
                largest = float(value.abs().max())
                raise CheckpointError(
                    f"{name} of {self.folder} reaches {largest:g}, which {name_of(dtype)} does not "
                    f"hold" + ("" if not math.isfinite(largest) else ": export as fp32 or bf16")
                )
            yield name, rounded

    @torch.no_grad()
    def logits(self, sequences: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
        """What the plain model gives, in fp64 on the CPU, for its weights rounded to `dtype`.

        Args:
            sequences: ids, `[tokens]` each.

        Returns:
            `[tokens, vocab]`, or a verifier's `[tokens]`, for each sequence.
        """
        model = self._empty.to(torch.float64).to_empty(device="cpu").eval()
        parameters = dict(model.named_parameters())
        for name, value in self.tensors(dtype):
            parameters[name].copy_(value)
        return [
            model(sequence[None], torch.arange(len(sequence))[None], causal_attention)[0]
            for sequence in sequences
        ]
