"""Takes the settings of `model` that are left out from the `config.json` beside initial weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from training.config.model_json import SHAPE, settings_of
from training.errors import ConfigError, DataError
from training.files import read_json_object

Tree = dict[str, Any]

_FILE = "config.json"
_IN_CHECKPOINT = Path("huggingface", _FILE)
"""Within a checkpoint of this project."""
_TAKEN = (*SHAPE, "max_tokens")


def with_settings_of_weights(tree: Tree) -> Tree:
    """A config's tables with each `model` completed by the file beside its `initial_weights`.

    A table that has a shape of its own stays as it is where there is no such file yet, or the hub
    cannot be reached: the weights are compared with it when they are read.

    Raises:
        ConfigError: a setting contradicts the file, or there is neither a file nor a shape.
        DataError: there is no shape, and the hub cannot be reached.
        CheckpointError: the file describes no supported model.
    """
    done = dict(tree)
    for name, part in tree.items():
        if name == "model":
            done[name] = _completed(part, name)
        elif name in ("generator", "verifier") and isinstance(part, dict) and "model" in part:
            part = cast(Tree, part)
            done[name] = part | {"model": _completed(part["model"], f"{name}.model")}
    return done


def is_saved_model(text: str) -> bool:
    """Whether a word of a command line is a model's folder, or its `config.json`."""
    path = Path(text).expanduser()
    if path.is_dir():
        return any(found.is_file() for found in (path / _FILE, path / _IN_CHECKPOINT))
    return path.name == _FILE and path.is_file() and "model_type" in read_json_object(path)


def settings_beside(source: str) -> Tree | None:
    """The settings of `model` that a saved model has; None where no file is found.

    Args:
        source: A folder, a `config.json`, a checkpoint of this project or a hub id.

    Raises:
        CheckpointError: the file describes no supported model.
        DataError: it is a hub id, and the hub cannot be reached.
        DamagedFileError: it is no JSON object.
    """
    try:
        path = next((path for path in _places(source) if path.is_file()), None)
    except (OSError, RuntimeError):  # no path that a file system takes; said when it is checked
        return None
    if path is None:
        return None
    settings = settings_of(read_json_object(path), str(path))
    return {name: settings[name] for name in _TAKEN}


def _places(source: str) -> Iterator[Path]:
    here = Path(source).expanduser()
    if here.is_file():
        yield here
    yield from (here / _FILE, here / _IN_CHECKPOINT)
    from training import hub  # takes a moment to import

    if not here.exists() and hub.is_hub_id(source):
        yield hub.files_of(source, [_FILE], "model.initial_weights") / _FILE


def _completed(model: Any, place: str) -> Any:
    if not isinstance(model, dict):
        return model
    model = cast(Tree, model)
    source = model.get("initial_weights")
    if not isinstance(source, str) or not source.strip():
        return model
    has_shape = any(name in model for name in SHAPE)
    try:
        found = settings_beside(source)
    except DataError:
        if not has_shape:
            raise
        found = None
    if found is None and not has_shape:
        raise ConfigError(
            f"{place}.initial_weights = {source!r}: there is no {_FILE} to read the model's shape "
            f"from: name a model's folder, or set {place}.hidden_size and the like"
        )
    if found is None:
        return model
    for name in SHAPE:
        if name in model and model[name] != found[name]:
            raise ConfigError(
                f"{place}.{name} = {model[name]!r}, but {place}.initial_weights = {source!r} has "
                f"{found[name]!r}: leave {place}.{name} out"
            )
    return found | model
