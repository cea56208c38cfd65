"""A run's training state on disk, whole per parameter, so that any layout can resume from it.

    write(folder, engine)                 # all ranks; each writes some of the files
    read(folder, engine, step=1000)       # all ranks; each takes its parts
    read_tensor(folder, name, "fp32", size)   # without an engine

It is the parameter layout of DeepSpeed's universal checkpoints (arXiv 2406.18820),
`zero/NAME/{fp32,exp_avg,exp_avg_sq}.pt`, written straight from the running engine: a
change of layout is then no conversion, and there is one way to resume. DeepSpeed's own
path writes its shards first and converts them afterwards, which knows neither ZeRO-0 nor
the names of a pipeline's parameters in a run without one.

Files are read as plain tensors, memory-mapped: nothing in them is executed.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from checkpoints.together import written_together
from parallel.tensor_plan import shard_dim
from training import manifest
from training.config import ModelConfig
from training.disk import reported, save_torch
from training.errors import CheckpointError
from training.models.build import empty_model

if TYPE_CHECKING:
    from parallel.engine import Engine  # DeepSpeed takes seconds to import

FOLDER = "universal"
WEIGHT = "fp32"
"""The weight among a parameter's states."""
NUM_STATES = 3
"""Of each parameter: the weight and two moments."""
_PARAMETERS = "zero"
_VALUE, _CUT_DIM = "param", "cat_dim"
_ZIP_BYTES = 1700
"""What torch's file takes beside the tensor, about."""


def write(folder: Path, engine: "Engine") -> None:
    """Write the weights and optimizer state of all ranks (all ranks call it).

    One tensor is held whole at a time above the shards.

    Raises:
        NoSpace, NotWritten: on all ranks, where one of them could not write a file.
    """
    layout, place = engine.groups.layout, engine.groups.place
    # The ranks of a pipeline stage all see its tensors whole, one after the other.
    num_writers = layout.data * layout.tensor
    mine = place.data * layout.tensor + place.tensor
    with written_together(engine.groups.ranks):
        failed: OSError | None = None
        for index, (name, state, value) in enumerate(engine.states()):
            # After an error the stream is still walked to its end: it is all ranks'.
            if index % num_writers == mine and failed is None:
                # The dim is for DeepSpeed's readers; ours use the engine's own marks.
                dim = shard_dim(name, engine.config.model.head) or 0
                try:
                    _write_tensor(path_of(folder, name, state), value, dim)
                except OSError as error:
                    failed = error
        if failed is not None:
            raise failed


def _write_tensor(path: Path, value: Tensor, dim: int) -> None:
    with reported(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    whole = value.to("cpu", torch.float32, copy=True)
    save_torch({_VALUE: whole, _CUT_DIM: dim}, path, num_bytes=whole.nbytes + _ZIP_BYTES)


def file_sizes(sizes: Mapping[str, torch.Size]) -> list[int]:
    """Bytes of each file that `write` writes, for a model of parameters of these sizes."""
    per_parameter = [4 * size.numel() + _ZIP_BYTES for size in sizes.values()]
    return per_parameter * NUM_STATES


def read(folder: Path, engine: "Engine", *, step: int) -> None:
    """Take this rank's parts of what `write` wrote, under the same layout or another.

    Args:
        folder: A checkpoint whose manifest was verified.
        engine: Of the same model.
        step: Updates that the state has seen.

    Raises:
        FileNotFoundError: the checkpoint holds no state of one of the model's parameters.
        CheckpointError: it holds one of another size, one that is no tensor, or one that its
            manifest does not list.
    """
    listed: dict[str, Any] = manifest.read(folder)["outputs"]
    sizes = {name: engine.whole_size(parameter) for name, parameter in engine.parameters().items()}

    def value_of(name: str, state: str) -> Tensor:
        path = path_of(folder, name, state)
        if path.is_file() and str(path.relative_to(folder)) not in listed:
            raise CheckpointError(f"{path} is in no manifest: training did not write it")
        return read_tensor(folder, name, state, sizes[name])

    engine.restore(value_of, step=step)


def weights(folder: Path, model: ModelConfig) -> Callable[[str], Tensor]:
    """A function from a parameter's name to its whole weight in a verified checkpoint.

    It raises as `read_tensor` does.
    """
    module: nn.Module = empty_model(model, "meta")
    sizes = {name: parameter.shape for name, parameter in module.named_parameters()}
    return lambda name: read_tensor(folder, name, WEIGHT, sizes[name])


def read_tensor(folder: Path, name: str, state: str, size: torch.Size) -> Tensor:
    """One whole tensor, memory-mapped, fp32 on the CPU. Raises as `read`."""
    path = path_of(folder, name, state)
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no training state of {name}: {path}")
    try:
        content: Any = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is no file of tensors that training wrote ({type(error).__name__}); nothing "
            "in it was executed"
        ) from error
    value: Any = content.get(_VALUE) if isinstance(content, dict) else None
    if not isinstance(value, Tensor) or value.dtype != torch.float32:
        raise CheckpointError(f"{path} holds no fp32 tensor called {_VALUE!r}")
    if value.shape != size:
        raise CheckpointError(f"{path} is {list(value.shape)}, the model's {name} is {list(size)}")
    return value


def path_of(folder: Path, name: str, state: str) -> Path:
    """Where a checkpoint keeps one of a parameter's tensors."""
    return folder / FOLDER / _PARAMETERS / name / f"{state}.pt"
