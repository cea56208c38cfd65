"""An exported folder is compared with the checkpoint that it was made from.

    compared = compare(source, folder, torch.float32)    # raises ExportDiffers

transformers reads the folder back. Both work in fp64: in fp32 a large model's logits differ by more
than the tolerance through the order of its sums alone. One model is held at a time.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from checkpoints.export_source import Source
from training.config.model_json import class_of
from training.errors import CheckpointError
from training.execution import programs
from training.models.huggingface_names import to_huggingface

TOLERANCE = 1e-5
"""Largest difference of a logit, or of a verifier's score, absolute."""
_QUESTIONS = (
    "Maya picked 5 fewer plums than Tom. Tom picked 12 plums. How many did Maya pick?",
    "A café sells 3 teas for every 4 coffees. It sold 120 coffees at $2.50. What did teas earn "
    "at half the price, and what did both earn together?",
)
_NUM_RANDOM_SEQUENCES, _SEQUENCE_TOKENS = 3, 64


class ExportDiffers(CheckpointError):
    """What transformers read back is not the source; nothing was left behind."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """How a folder compares with its source."""

    num_values: int
    """Logits, or a verifier's scores, that were compared."""
    largest_difference: float
    """Of any of them, absolute."""


def _sequences(source: Source) -> list[Tensor]:
    """Ids to compare on, `[tokens]` each: prompts as they are asked, and random ones.

    They differ in length, so that a batch of them has padding. A verifier's end with the end token,
    as programs do.
    """
    longest = min(_SEQUENCE_TOKENS, source.shape.max_tokens)
    generator = torch.Generator().manual_seed(0)
    size = (_NUM_RANDOM_SEQUENCES, longest)
    drawn = torch.randint(source.shape.vocab_size, size, generator=generator)
    random = [row[: longest - longest * number // 8] for number, row in enumerate(drawn)]
    prompts = [source.tokenizer.prompt_ids(question)[:longest] for question in _QUESTIONS]
    sequences = [*map(torch.tensor, prompts), *random]
    if source.kind == "verifier":
        for sequence in sequences:
            sequence[-1] = source.tokenizer.end_token
    return sequences


@torch.no_grad()
def compare(source: Source, folder: Path, dtype: torch.dtype) -> Compared:
    """Compare what transformers reads from a folder with the source.

    Args:
        source: The checkpoint.
        folder: Made of it.
        dtype: Of the folder's weights.

    Raises:
        ExportDiffers: ids, weights or logits do; says which.
    """
    sequences = _sequences(source)
    tokenizer = _tokenizer_read_back(source, folder)
    expected = source.logits(sequences, dtype)
    model = _read_back(source, folder)
    theirs: dict[str, Tensor] = dict(model.named_parameters())
    for name, value in source.tensors(dtype):
        found = theirs[to_huggingface(name, source.shape, source.kind)]
        if not torch.equal(found[: len(value)], value.double()) or found[len(value) :].any():
            raise ExportDiffers(f"{name} is not read back from {folder} as it was written")
    if source.kind == "verifier":  # scores of one batch, as a server computes them
        _check_padding(source, model, tokenizer)
        padded = tokenizer.pad(
            {"input_ids": [sequence.tolist() for sequence in sequences]}, return_tensors="pt"
        )
        all_found, expected = model(**padded).logits, [scores[-1:] for scores in expected]
    else:
        all_found = [model(sequence[None]).logits[0] for sequence in sequences]
    largest = 0.0
    for found, wanted in zip(all_found, expected, strict=True):
        difference = float((found - wanted).abs().max())
        # Written so that a difference that is not a number fails as well.
        if not difference <= TOLERANCE:
            raise ExportDiffers(
                f"what transformers reads of {source.folder} gives logits that differ by "
                f"{difference:g} from the source's, more than {TOLERANCE:g}: nothing was exported"
            )
        largest = max(largest, difference)
    num_values = sum(wanted.numel() for wanted in expected)
    return Compared(num_values=num_values, largest_difference=largest)


def _check_padding(source: Source, model: Any, tokenizer: Any) -> None:
    """Raises ExportDiffers where a padded batch is not scored at the last tokens of programs."""
    wanted = source.tokenizer.pad_token(source.kind)
    for name, found in (
        ("config.json", model.config.pad_token_id),
        ("the tokenizer", tokenizer.pad_token_id),
    ):
        if found != wanted:
            raise ExportDiffers(
                f"{name} that transformers reads of {source.folder} has pad_token_id = {found}, "
                f"not {wanted}: nothing was exported"
            )


def _tokenizer_read_back(source: Source, folder: Path) -> Any:
    """The folder's tokenizer by transformers.

    Raises:
        ExportDiffers: it gives other ids than the source's.
    """
    from transformers import AutoTokenizer

    theirs: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for question in _QUESTIONS:
        text = programs.prompt(question)
        found = theirs(text, add_special_tokens=False)["input_ids"]
        if found != source.tokenizer.encode(text):
            raise ExportDiffers(
                f"the tokenizer that transformers reads of {source.folder} gives {text[:40]!r}... "
                "other ids than the source's: nothing was exported"
            )
    return theirs


def _read_back(source: Source, folder: Path) -> Any:
    """The folder's model by transformers, in fp64, with every tensor taken from the folder."""
    import transformers
    from transformers.utils import logging

    kind = "SequenceClassification" if source.kind == "verifier" else "CausalLM"
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model, info = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(
            folder, dtype=torch.float64, local_files_only=True, output_loading_info=True
        )
    finally:
        if bars:
            logging.enable_progress_bar()
    faults = {what: names for what, names in info.items() if names}
    if faults or type(model).__name__ != class_of(source.shape.architecture, source.kind):
        raise ExportDiffers(
            f"transformers reads a {type(model).__name__} of {source.folder}, with {faults}: "
            "nothing was exported"
        )
    return model.eval()
