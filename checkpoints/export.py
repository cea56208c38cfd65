"""A checkpoint becomes a Hugging Face folder, compared with its source before it is there.

    exported = export(Path("runs/demo/generator"), Path("demo_generator"), torch.float32)

The folder is written beside its place, read back by transformers, compared (`export_check.py`), and
renamed. An
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

import torch
from torch import Tensor

from checkpoints.export_check import Compared, compare
from checkpoints.export_source import Source
from checkpoints.store import find_checkpoint
from training import manifest
from training.checkpoint_paths import CHECKPOINTS
from training.config.model_json import class_of
from training.disk import require
from training.errors import ConfigError
from training.files import sync
from training.models import huggingface
from training.models.build import WEIGHTS
from training.models.dtypes import name_of

logger = logging.getLogger(__name__)

_EMBEDDING = "body.embedding.weight"
_ROWS = 64
"""An embedding that is made larger has a multiple of it, which tensor parallelism can divide."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What was written, and how it compared."""

    checkpoint: Path
    folder: Path
    architecture: str
    dtype: torch.dtype
    num_parameters: int
    num_bytes: int
    compared: Compared
    """With the checkpoint."""

    def __str__(self) -> str:
        return (
            f"{self.folder}: {self.architecture} of {self.checkpoint}, "
            f"{self.num_parameters:,} parameters in {name_of(self.dtype)}, "
            f"{self.num_bytes:,} bytes; weights equal, {self.compared.num_values:,} logits within "
            f"{self.compared.largest_difference:.1e}"
        )


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
        compared = compare(source, temporary, dtype)
        files = sorted(temporary.iterdir())
        exported = Exported(
            checkpoint=source.folder,
            folder=folder,
            architecture=class_of(source.shape.architecture, source.kind),
            dtype=dtype,
            num_parameters=source.num_parameters,
            num_bytes=sum(path.stat().st_size for path in files),
            compared=compared,
        )
        manifest.commit(
            temporary,
            stage="export",
            config={"dtype": name_of(dtype)},
            inputs={"checkpoint": manifest.fingerprint(source.folder)},
            outputs=files,
            facts={
                "checkpoint": str(source.folder),
                "largest_difference": compared.largest_difference,
            },
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
