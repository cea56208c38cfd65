"""Loads and saves weights as Hugging Face folders: `config.json` and safetensors.

A generator is a `...ForCausalLM`, a verifier a `...ForSequenceClassification` with one label.
transformers reads both without any code of ours, and this module reads folders that transformers
saved, or the hub's `microsoft/phi-1_5`.

    model = load_language_model("microsoft/phi-1_5")     # or a local folder
    verifier = load_verifier("runs/generator/export")    # a generator's folder: new head
    save(model, Path("runs/export"), end_token=50256)

Only JSON and safetensors are read: nothing in a folder is ever executed. Where no rank holds a
whole model, `WeightFolder` and `write_folder` stream it tensor by tensor.

Where a manifest of this project lists the files, they are compared with it: `config.json` and
the index whenever a folder is opened, the weights by `verify`, which divides them among the ranks.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from parallel.ranks import Ranks
from training import hub, verification
from training.config.model_json import SHAPE, config_of, head_of, settings_of
from training.config.values import HeadKind
from training.disk import reported
from training.errors import CheckpointError, DataError, UserError
from training.files import read_json_object, write_json
from training.models.heads import LanguageModel, Verifier
from training.models.huggingface_names import HEADS, to_huggingface
from training.models.parts import initial_value
from training.models.shape import ModelShape

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_CONFIG = "config.json"
_HUB_PATTERNS = (_CONFIG, "*.safetensors", "*.safetensors.index.json")
_DTYPES = ("F64", "F32", "BF16", "F16")
_MOST_PROBLEMS = 8


def resolve(source: str | Path) -> Path:
    """The local folder of a model: the path itself, or a download of the hub id.

    Raises:
        FileNotFoundError: there is no such folder, and it cannot be downloaded from the hub.
    """
    folder = Path(source)
    if folder.is_dir():
        return folder
    if not hub.is_hub_id(str(source)):
        raise FileNotFoundError(f"there is no model folder {source}")
    try:
        return hub.files_of(str(source), _HUB_PATTERNS, "the model's path")
    except DataError as error:
        raise FileNotFoundError(str(error)) from error


def verify(source: str | Path, *, ranks: Ranks) -> None:
    """Compare a folder's files with the manifest of this project that lists them, if any.

    Args:
        source: A local folder, or a hub id, whose files no manifest lists.
        ranks: The ranks, all of which call this; each reads some of the files.

    Raises:
        FileNotFoundError: no such folder or hub id, or it lacks a file.
        DamagedFileError: on all ranks: a file has changed since it was written.
    """
    folder = resolve(source)
    names = ranks.on_main(lambda: [path.name for path in _paths(folder)])
    verification.verify(folder, [_CONFIG, _INDEX, *names], ranks=ranks)


def _paths(folder: Path) -> list[Path]:
    """A folder's files of weights, after comparing its config and index with a manifest."""
    verification.verify(folder, [_CONFIG, _INDEX])
    index = folder / _INDEX
    names = {_WEIGHTS}
    if index.is_file():
        located = read_json_object(index).get("weight_map")
        if not isinstance(located, dict) or not located:
            raise CheckpointError(f"{index} has no weight_map that names files")
        names = set(map(str, cast("dict[str, Any]", located).values()))
    paths = [folder / name for name in sorted(names)]
    for path in paths:
        if path.parent != folder:
            raise CheckpointError(f"{index} names a file outside its folder: {path}")
        if not path.is_file():
            raise FileNotFoundError(f"{folder} has no {path.name}")
    return paths


class WeightFolder:
    """A Hugging Face folder opened for reading one tensor at a time.

    A context manager; tensors are read from disk on demand.
    """

    def __init__(self, source: str | Path) -> None:
        """Read the config and find which file holds which tensor.

        Raises:
            FileNotFoundError: no such folder, or it lacks `config.json` or safetensors.
            CheckpointError: the folder's model is of no supported architecture, or is damaged.
        """
        self.folder = resolve(source)
        config_path = self.folder / _CONFIG
        if not config_path.is_file():
            raise FileNotFoundError(f"{self.folder} has no {_CONFIG}")
        paths = _paths(self.folder)
        config = read_json_object(config_path)
        self.shape = ModelShape.from_settings(settings_of(config, str(config_path)))
        self.kind: HeadKind = head_of(config, str(config_path))
        self._files: dict[str, Any] = {}
        self._stack = ExitStack()
        try:
            for path in paths:
                opened = self._stack.enter_context(safe_open(path, framework="pt", device="cpu"))
                self._files.update(dict.fromkeys(opened.keys(), opened))
            self._check_dtypes()
        except SafetensorError as error:
            self._stack.close()
            raise CheckpointError(
                f"{self.folder} holds a damaged safetensors file: {error}"
            ) from error
        except UserError:
            self._stack.close()
            raise

    def _check_dtypes(self) -> None:
        for name, opened in self._files.items():
            if (dtype := opened.get_slice(name).get_dtype()) not in _DTYPES:
                raise CheckpointError(
                    f"{self.folder}: {name} is of dtype {dtype}, only {', '.join(_DTYPES)} are read"
                )
        if self.shape.num_layers > len(self._files):
            raise CheckpointError(
                f"{self.folder / _CONFIG} has num_hidden_layers = {self.shape.num_layers:,}, the "
                f"weights beside it are {len(self._files):,} tensors"
            )

    def __enter__(self) -> "WeightFolder":
        """Open for a `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self._stack.close()

    @property
    def names(self) -> set[str]:
        """The tensors' names in Hugging Face's convention."""
        return set(self._files)

    def size(self, name: str) -> torch.Size:
        """A tensor's size without reading it."""
        return torch.Size(self._files[name].get_slice(name).get_shape())

    def read(self, name: str) -> Tensor:
        """One whole tensor, on the CPU, in the dtype it was stored in.

        Raises:
            CheckpointError: it holds NaN or infinity.
        """
        tensor = self._files[name].get_tensor(name)
        # A NaN makes both extremes NaN; `isfinite` on the tensor would allocate a copy.
        if tensor.numel() and not all(value.isfinite() for value in tensor.aminmax()):
            raise CheckpointError(
                f"{self.folder}: {name} holds NaN or infinity, so the model would output NaN: name "
                "the folder of another checkpoint"
            )
        return tensor


def _check_same_arithmetic(expected: ModelShape, actual: ModelShape, folder: Path) -> None:
    # Most change the outputs but no tensor's shape, so no other check would notice.
    for name in SHAPE:
        if getattr(expected, name) != getattr(actual, name):
            raise CheckpointError(
                f"{folder} has {name} = {getattr(actual, name)}, "
                f"the model to load it into {getattr(expected, name)}"
            )


def _check_tensors(sizes: dict[str, torch.Size], weights: WeightFolder, unused: set[str]) -> None:
    problems: list[str] = []
    for name, size in sizes.items():
        if name not in weights.names:
            problems.append(f"{name} {list(size)} is missing")
        elif weights.size(name) != size:
            problems.append(f"{name} is {list(weights.size(name))}, the model's is {list(size)}")
    for name in sorted(weights.names - sizes.keys() - unused):
        problems.append(f"{name} {list(weights.size(name))} is unexpected")
    if problems:
        more = len(problems) - _MOST_PROBLEMS
        shown = "; ".join(problems[:_MOST_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")
        raise CheckpointError(f"{weights.folder} does not fit the model: {shown}")


@contextmanager
def reading(
    source: str | Path, model: LanguageModel | Verifier, *, seed: int = 0
) -> Generator[Callable[[str], Tensor], None, None]:
    """Open a folder's weights for a model; yields a function from our names to whole tensors.

    The model may be on the meta device: only its names and sizes are used. A verifier may read a
    generator's folder: its body takes the weights, its head is initialised from `seed`.

    Raises:
        FileNotFoundError: no such folder or hub id.
        CheckpointError: the folder holds tensors of other shapes or names; lists them.
    """
    kind: HeadKind = "verifier" if isinstance(model, Verifier) else "language_model"
    module: nn.Module = model
    sizes = {name: parameter.shape for name, parameter in module.named_parameters()}
    with WeightFolder(source) as weights:
        _check_same_arithmetic(model.shape, weights.shape, weights.folder)
        new: set[str] = set()
        unused: set[str] = set()
        head = HEADS["language_model"]
        if kind == "verifier" and weights.kind == "language_model":
            new, unused = {"head.weight"}, {f"{head}.weight", f"{head}.bias"}
        elif model.shape.tied_head:
            unused = {f"{head}.weight"}  # some folders hold the embedding's matrix twice
        theirs = {name: to_huggingface(name, model.shape, kind) for name in sizes.keys() - new}
        hub_sizes = {theirs[name]: sizes[name] for name in sizes if name not in new}
        _check_tensors(hub_sizes, weights, unused)

        def read(name: str) -> Tensor:
            if name in new:
                return initial_value(name, sizes[name], seed=seed, std=model.shape.init_std)
            return weights.read(theirs[name])

        yield read


@torch.no_grad()
def load(model: LanguageModel | Verifier, source: str | Path, *, seed: int = 0) -> None:
    """Fill a model with a folder's weights, cast to the model's dtype. Raises as `reading`."""
    module: nn.Module = model
    with reading(source, model, seed=seed) as read:
        for name, parameter in module.named_parameters():
            parameter.copy_(read(name))


_Model = TypeVar("_Model", LanguageModel, Verifier)


def _load_new(
    build: Callable[[ModelShape], _Model],
    source: str | Path,
    device: torch.device | str,
    dtype: torch.dtype,
    seed: int,
) -> _Model:
    folder = resolve(source)
    with WeightFolder(folder) as weights:
        shape = weights.shape
    # On the meta device first: torch's own initial values would be discarded, and a config whose
    # sizes exceed those of the weights is refused before memory is allocated.
    with torch.device("meta"):
        model = build(shape)
    with reading(folder, model, seed=seed):
        model = model.to(dtype).to_empty(device=device)
    load(model, folder, seed=seed)
    return model


def load_language_model(
    source: str | Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> LanguageModel:
    """A generator from a local folder or hub id. Raises as `load` does."""
    return _load_new(LanguageModel, source, device, dtype, 0)


def load_verifier(
    source: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Verifier:
    """A verifier from its own folder, or from a generator's with a new head."""
    return _load_new(Verifier, source, device, dtype, seed)


def write_folder(
    folder: Path,
    shape: ModelShape,
    kind: HeadKind,
    tensors: Iterable[tuple[str, Tensor]],
    *,
    dtype: torch.dtype = torch.float32,
    end_token: int | None = None,
    pad_token: int | None = None,
    max_shard_bytes: int = 4 << 30,
) -> None:
    """Write a Hugging Face folder from a stream of (our name, whole tensor).

    At most one shard is held in memory. `config.json` is written last, so that an incomplete
    folder cannot be loaded. The caller adds the tokenizer's files.

    Raises:
        NoSpace: the disk is full.
    """
    with reported(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for stale in (folder / "config.json", folder / _INDEX, *folder.glob("model*.safetensors")):
        stale.unlink(missing_ok=True)
    weight_map: dict[str, int] = {}
    total = 0
    num_shards = 0
    for num_shards, shard in enumerate(_shards(tensors, dtype, max_shard_bytes), 1):
        renamed = {to_huggingface(name, shape, kind): tensor for name, tensor in shard.items()}
        num_bytes = sum(tensor.nbytes for tensor in renamed.values())
        path = folder / f"shard-{num_shards}.tmp"
        with reported(path, num_bytes):
            save_file(renamed, path, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(renamed, num_shards))
        total += num_bytes
    names = (
        {1: _WEIGHTS}
        if num_shards == 1
        else {
            shard: f"model-{shard:05d}-of-{num_shards:05d}.safetensors"
            for shard in range(1, num_shards + 1)
        }
    )
    for shard, name in names.items():
        (folder / f"shard-{shard}.tmp").rename(folder / name)
    if num_shards > 1:
        located = {name: names[shard] for name, shard in weight_map.items()}
        write_json(folder / _INDEX, {"metadata": {"total_size": total}, "weight_map": located})
    named = str(dtype).removeprefix("torch.")
    config = config_of(shape.settings(), kind, named, end_token=end_token, pad_token=pad_token)
    write_json(folder / "config.json", config)


def _shards(
    tensors: Iterable[tuple[str, Tensor]], dtype: torch.dtype, max_bytes: int
) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    held = 0
    for name, tensor in tensors:
        whole = tensor.detach().to(device="cpu", dtype=dtype).contiguous()
        if shard and held + whole.nbytes > max_bytes:
            yield shard
            shard, held = {}, 0
        shard[name] = whole
        held += whole.nbytes
    if shard:
        yield shard


def save(
    model: LanguageModel | Verifier,
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    end_token: int | None = None,
    max_shard_bytes: int = 4 << 30,
) -> None:
    """Write a whole model as a Hugging Face folder, in its own dtype by default."""
    module: nn.Module = model
    write_folder(
        folder,
        model.shape,
        "verifier" if isinstance(model, Verifier) else "language_model",
        module.named_parameters(),
        dtype=dtype or model.body.embedding.weight.dtype,
        end_token=end_token,
        max_shard_bytes=max_shard_bytes,
    )
