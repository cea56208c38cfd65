"""A checkpoint becomes a Hugging Face folder, compared with its source before it is there.

    exported = export(Path("runs/demo/generator"), Path("demo_generator"), torch.float32)

Weights come from the training state (`universal.py`): whole, fp32, the same whatever layout
wrote it. Shape, head and tokenizer come from the `huggingface/` folder beside it, not from
the run's `run.json`: the checkpoint's manifest covers the former; the latter is outside of it, is
written again by every attempt, and stays behind when a checkpoint is moved.

The folder is written beside its place, read back by transformers, compared, and renamed. An
export that fails or is killed leaves no folder, and one that exists is never written to.
"""

import glob
import logging
import math
import os
import shutil
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from checkpoints import universal
from checkpoints.store import find_checkpoint
from parallel.sharding import WEIGHT
from training import manifest
from training.checkpoint_paths import CHECKPOINTS
from training.config.model_json import class_of
from training.config.values import HeadKind
from training.data.tokenizer import Tokenizer
from training.disk import require
from training.errors import CheckpointError, ConfigError
from training.execution import programs
from training.files import sync
from training.models import huggingface
from training.models.attention import causal_attention
from training.models.build import WEIGHTS
from training.models.dtypes import DTYPES
from training.models.heads import LanguageModel, Verifier
from training.models.huggingface_names import to_huggingface

logger = logging.getLogger(__name__)

TOLERANCE = 1e-5
"""Largest difference of a logit, or of a verifier's score, absolute."""
_QUESTIONS = (
    "Maya picked 5 fewer plums than Tom. Tom picked 12 plums. How many did Maya pick?",
    "A café sells 3 teas for every 4 coffees. It sold 120 coffees at $2.50. What did teas earn "
    "at half the price, and what did both earn together?",
)
_NUM_RANDOM_SEQUENCES, _SEQUENCE_TOKENS = 3, 64
_EMBEDDING = "body.embedding.weight"
_ROWS = 64
"""An embedding that is made larger has a multiple of it, which tensor parallelism can divide."""


class ExportDiffers(CheckpointError):
    """What transformers read back is not the source; nothing was left behind."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What was written, and how it compared."""

    checkpoint: Path
    folder: Path
    architecture: str
    dtype: torch.dtype
    num_parameters: int
    num_bytes: int
    num_compared: int
    """Logits or scores that were compared."""
    largest_difference: float
    """Of any of them, absolute."""

    def __str__(self) -> str:
        return (
            f"{self.folder}: {self.architecture} of {self.checkpoint}, "
            f"{self.num_parameters:,} parameters in {_name(self.dtype)}, {self.num_bytes:,} bytes; "
            f"weights equal, {self.num_compared:,} logits within {self.largest_difference:.1e}"
        )


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
                    f"{name} of {self.folder} reaches {largest:g}, which {_name(dtype)} does not "
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


def export(checkpoint: Path, folder: Path, dtype: torch.dtype) -> Exported:
    """Write a checkpoint's model as a Hugging Face folder and compare it with the source.

    A generator becomes transformers' `...ForCausalLM`, a verifier `...ForSequenceClassification`
    with a padding token other than the end token; where its embedding has no row for that, it gets
    rows of zeros. Writing holds one file of at most 4 GiB in memory, comparing one model of 8 bytes
    a parameter.

    Args:
        checkpoint: A `step_N` folder, or a run folder: then its newest that verifies.
        folder: Made by this; it may be there if it is empty.
        dtype: Of the weights written.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        FileExistsError: there is something at `folder` already.
        CheckpointError: the checkpoint is damaged or none, or `dtype` does not hold its weights.
        NoSpace: there is no room.
        ExportDiffers: what was written does not give the source's logits.
    """
    folder = Path(os.path.abspath(folder))
    source = source_for(checkpoint, folder)
    with _written_beside(folder) as temporary:
        _check_room(source, temporary, dtype)
        _write(source, temporary, dtype)
        sequences = _sequences(source)
        largest = _largest_difference(source, temporary, sequences, dtype)
        files = sorted(temporary.iterdir())
        exported = Exported(
            checkpoint=source.folder,
            folder=folder,
            architecture=class_of(source.shape.architecture, source.kind),
            dtype=dtype,
            num_parameters=source.num_parameters,
            num_bytes=sum(path.stat().st_size for path in files),
            num_compared=len(sequences)
            if source.kind == "verifier"
            else sum(map(len, sequences)) * source.shape.vocab_size,
            largest_difference=largest,
        )
        manifest.commit(
            temporary,
            stage="export",
            config={"dtype": _name(dtype)},
            inputs={"checkpoint": manifest.fingerprint(source.folder)},
            outputs=files,
            facts={"checkpoint": str(source.folder), "largest_difference": largest},
        )
    return exported


def source_for(checkpoint: Path, folder: Path) -> Source:
    """What `export` would write into `folder`, an absolute path. Raises as `export`."""
    _check_free(folder)
    found = find_checkpoint(checkpoint)
    _check_outside(folder, found)
    return Source(found)


def _check_free(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise FileExistsError(f"{folder} is there and is no folder: name another one")
    if folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: name another folder, or remove it")


def _check_outside(folder: Path, checkpoint: Path) -> None:
    """A folder among the checkpoints would be taken for one, and pruned with them."""
    target, inside = folder.resolve(), checkpoint.resolve()
    if inside.parent.name == CHECKPOINTS:
        inside = inside.parent
    if target.is_relative_to(inside):
        raise ConfigError(f"{folder} is within {inside}, which training writes: name another one")


def _check_room(source: Source, temporary: Path, dtype: torch.dtype) -> None:
    tokenizer = [path.stat().st_size for path in (source.folder / WEIGHTS).glob("*.json")]
    sizes = [source.num_parameters * dtype.itemsize, *tokenizer]
    require(temporary, sizes, what=f"the export of {source.folder}")


def _write(source: Source, folder: Path, dtype: torch.dtype) -> None:
    shape, tensors = source.shape, source.tensors(dtype)
    pad_token = source.tokenizer.pad_token(source.kind)
    if pad_token is not None and pad_token >= shape.vocab_size:
        num_ids = math.ceil((pad_token + 1) / _ROWS) * _ROWS
        logger.info(
            f"the embedding of {shape.vocab_size} rows has none for the padding token, whose id is "
            f"{pad_token}: {num_ids - shape.vocab_size} rows of zeros are added"
        )
        shape, tensors = replace(shape, vocab_size=num_ids), _with_rows(tensors, num_ids)
    huggingface.write_folder(
        folder,
        shape,
        source.kind,
        tensors,
        dtype=dtype,
        end_token=source.tokenizer.end_token,
        pad_token=pad_token,
    )
    source.tokenizer.save(folder, head=source.kind)


def _with_rows(
    tensors: Iterable[tuple[str, Tensor]], num_rows: int
) -> Iterator[tuple[str, Tensor]]:
    """The same tensors, the embedding with rows of zeros after its own."""
    for name, value in tensors:
        if name == _EMBEDDING:
            value = torch.cat((value, value.new_zeros(num_rows - len(value), value.shape[1])))
        yield name, value


@contextmanager
def _written_beside(folder: Path) -> Generator[Path, None, None]:
    """Yield a new folder beside `folder`; when the block ends well it durably becomes it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for stale in folder.parent.glob(f".{glob.escape(folder.name)}.*.tmp"):
        # Not removed: another export may be at it.
        logger.warning(f"{stale} is what another export writes, or left when it was killed")
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        # safetensors writes files that only the owner can read; JSON files have the usual mode.
        mode = (temporary / "config.json").stat().st_mode
        for path in temporary.iterdir():
            path.chmod(mode)
            sync(path)
        sync(temporary)
        _check_free(folder)
        temporary.rename(folder)  # over an empty folder at most: else it fails
        sync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
def _largest_difference(
    source: Source, folder: Path, sequences: list[Tensor], dtype: torch.dtype
) -> float:
    """Compare what transformers reads from a folder with the source.

    Both work in fp64: in fp32 a large model's logits differ by more than the tolerance
    through the order of its sums alone. One model is held at a time.

    Returns:
        The largest difference of a logit.

    Raises:
        ExportDiffers: ids, weights or logits do; says which.
    """
    tokenizer = _tokenizer_read_back(source, folder)
    expected = source.logits(sequences, dtype)
    model = _read_back(source, folder)
    theirs: dict[str, Tensor] = dict(model.named_parameters())
    for name, value in source.tensors(dtype):
        found = theirs[to_huggingface(name, source.shape, source.kind)]
        if not torch.equal(found[: len(value)], value.double()) or found[len(value) :].any():
            raise ExportDiffers(f"{name} is not read back from {folder} as it was written")
    if source.kind == "verifier":  # scores of one batch, as a server computes them
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
    return largest


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
    if source.kind == "verifier" and theirs.pad_token_id != source.tokenizer.pad_token("verifier"):
        raise ExportDiffers(
            f"the tokenizer that transformers reads of {source.folder} pads with the id "
            f"{theirs.pad_token_id}, not {source.tokenizer.pad_token('verifier')}: nothing was "
            "exported"
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


def _name(dtype: torch.dtype) -> str:
    return next(name for name, named in DTYPES.items() if named == dtype)
