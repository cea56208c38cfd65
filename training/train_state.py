"""What a run knows of itself beside its weights: plain numbers, saved as JSON."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import Self

from training.files import read_json, write_json

FILE = "train_state.json"


@dataclass(kw_only=True, slots=True)
class TrainState:
    """Where a training run stands."""

    step: int = 0
    """Updates made."""
    tokens: int = 0
    """Tokens seen, padding not counted."""
    loader: dict[str, Any] = field(default_factory=dict[str, Any])
    """The loader's state: consumed rows and the data's fingerprint."""
    goodput: dict[str, float] = field(default_factory=dict[str, float])
    """Seconds of the run's lives so far."""
    wandb_run_id: str = ""
    layout: dict[str, Any] = field(default_factory=dict[str, Any])
    """The layout that wrote it; any other may go on from it."""
    loss_scale: dict[str, float] = field(default_factory=dict[str, float])
    """Where fp16's loss scaling stands; empty in other precisions."""

    def save(self, folder: Path) -> None:
        """Write into a checkpoint's folder."""
        write_json(folder / FILE, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read from a verified checkpoint's folder."""
        return cls(**read_json(folder / FILE))
