"""A run's training state on disk, whole per parameter, so that any layout can resume from it.

    copy(engine, copies)()                # all ranks; each gets the tensors it is to write
    for path in write(folder, copies, head): ...
    read(folder, engine, step=1000)       # all ranks; each takes its parts
    read_tensor(folder, name, "fp32", size)   # without an engine

It is the parameter layout of DeepSpeed's universal checkpoints (arXiv 2406.18820),
`zero/NAME/{fp32,exp_avg,exp_avg_sq}.pt`, written straight from the running engine: a
change of layout is then no conversion, and there is one way to resume. DeepSpeed's own
path writes its shards first and converts them afterwards, which knows neither ZeRO-0 nor
the names of a pipeline's parameters in a run without one.

Files are read as plain tensors, memory-mapped: nothing in them is executed.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from parallel.sharding import STATES, WEIGHT
from parallel.tensor_plan import shard_dim
from training import manifest
from training.config.values import HeadKind
from training.disk import reported, save_torch
from training.errors import CheckpointError

if TYPE_CHECKING:
    from parallel.engine import Engine  # DeepSpeed takes seconds to import

FOLDER = "universal"
_PARAMETERS = "zero"
_VALUE, _CUT_DIM = "param", "cat_dim"
_ZIP_BYTES = 1700
"""What torch's file takes beside the tensor, about."""


Copies = dict[tuple[str, str], Tensor]
"""Unsharded fp32 tensors on the CPU by parameter name and state."""


def copy(engine: "Engine", into: Copies) -> Callable[[], None]:
    """Copy the weights and optimizer state that this rank is to write (all ranks call it).

    Args:
        engine: Between two steps.
        into: An earlier save's copies, which are overwritten, or empty: memory that was used
            before is several times faster to fill.

    Returns:
        A function that copies the tensors that stay as they are until the engine's next update.
        Any thread may call it, while the next forward and backward passes run.
    """
    on_gpu = engine.device.type == "cuda"
    later: list[tuple[Tensor, Tensor]] = []
    for entry in engine.state.to_save():
        key = entry.name, entry.state
        if key not in into:
            size = entry.value.shape
            into[key] = torch.empty(size, dtype=torch.float32, pin_memory=on_gpu)
        if entry.stays:
            later.append((into[key], entry.value))
        else:
            into[key].copy_(entry.value, non_blocking=on_gpu)
    if on_gpu:
        torch.cuda.synchronize(engine.device)

    def copy_later() -> None:
        # Beside the passes on the GPU, not after them.
        stream = torch.cuda.Stream(engine.device) if on_gpu else None
        with torch.cuda.stream(stream):
            for target, value in later:
                target.copy_(value, non_blocking=on_gpu)
        if stream is not None:
            stream.synchronize()

    return copy_later


def write(folder: Path, copies: Copies, head: HeadKind) -> Iterator[Path]:
    """Write copies, one file each, and yield each file. No communication.

    Raises:
        NoSpace, NotWritten: a file could not be written.
    """
    for (name, state), value in copies.items():
        path = path_of(folder, name, state)
        with reported(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        # The dim is for DeepSpeed's readers; ours use the engine's own marks.
        content = {_VALUE: value, _CUT_DIM: shard_dim(name, head) or 0}
        save_torch(content, path, num_bytes=value.nbytes + _ZIP_BYTES)
        yield path


def file_sizes(sizes: Mapping[str, torch.Size]) -> list[int]:
    """Bytes of each file that all ranks write, for a model of parameters of these sizes."""
    per_parameter = [4 * size.numel() + _ZIP_BYTES for size in sizes.values()]
    return per_parameter * len(STATES)


def read(folder: Path, engine: "Engine", *, step: int) -> None:
    """Take this rank's parts of what was written, under the same layout or another.

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
    sizes = {
        name: engine.state.whole_size(value) for name, value in engine.state.parameters.items()
    }

    def value_of(name: str, state: str) -> Tensor:
        path = path_of(folder, name, state)
        if path.is_file() and str(path.relative_to(folder)) not in listed:
            raise CheckpointError(f"{path} is in no manifest: training did not write it")
        return read_tensor(folder, name, state, sizes[name])

    engine.state.restore(value_of, step=step)


def weights(folder: Path, sizes: Mapping[str, torch.Size]) -> Iterator[tuple[str, Tensor]]:
    """Name and whole weight of parameters of these sizes. Raises as `read_tensor`."""
    return ((name, read_tensor(folder, name, WEIGHT, size)) for name, size in sizes.items())


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
