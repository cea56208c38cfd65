"""A run's state beside weights and optimizer: step, tokens, data position. Saved as JSON."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from typing_extensions import Self

from parallel.layout import Layout
from training import verification
from training.checkpoint_paths import TRAIN_STATE, step_name
from training.errors import CheckpointError
from training.files import read_json_object, write_json


@dataclass(kw_only=True, slots=True)
class TrainState:
    """Where a training run stands."""

    step: int = 0
    """Updates made."""
    tokens: int = 0
    """Tokens of these updates, padding not counted."""
    skipped_updates: int = 0
    """Updates that were not made, as their gradient was not finite; no steps."""
    loader: dict[str, Any] = field(default_factory=dict[str, Any])
    """The loader's state: consumed sequences and the data's fingerprint."""
    goodput: dict[str, float] = field(default_factory=dict[str, float])
    """Seconds of the run so far, over all attempts."""
    wandb_run_id: str = ""
    layout: dict[str, Any] = field(default_factory=dict[str, Any])
    """The layout that wrote it; any other may resume from it."""
    loss_scale: dict[str, bool | int | float] = field(default_factory=dict[str, bool | int | float])
    """Where fp16's loss scaling stands, flags and all; empty in other precisions."""

    def save(self, folder: Path) -> Path:
        """Write into a checkpoint's folder; the file."""
        write_json(folder / TRAIN_STATE, asdict(self))
        return folder / TRAIN_STATE

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read from a checkpoint's folder `step_N`. A field that it lacks has its default.

        Raises:
            FileNotFoundError: there is none.
            CheckpointError: it changed since it was written, has fields or values that this
                version does not know, or is of another step than the folder.
        """
        path = folder / TRAIN_STATE
        verification.verify(folder, [TRAIN_STATE])
        content = read_json_object(path)
        layout = content.get("layout")
        unknown = content.keys() - {entry.name for entry in fields(cls)}
        if isinstance(layout, dict):
            unknown |= layout.keys() - {entry.name for entry in fields(Layout)}
        if unknown:
            raise CheckpointError(
                f"{path} holds {', '.join(sorted(unknown))}, which this version does not know: "
                "resume with the version that wrote it, or set another run.folder"
            )
        try:
            state = TypeAdapter(cls).validate_json(json.dumps(content), strict=True)
            TypeAdapter(Layout).validate_json(json.dumps(state.layout), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise CheckpointError(
                f"{path}: {where} = {first['input']!r} is no value of a run's state: {first['msg']}"
            ) from error
        if folder.name != step_name(state.step):
            raise CheckpointError(
                f"{path} is of step {state.step}, its folder is {folder.name}: give the folder "
                f"the name {step_name(state.step)} back"
            )
        return state
