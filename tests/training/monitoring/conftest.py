"""Trackers that know nothing of the person's own W&B, and a server for them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training.monitoring.pieces import Json
from tests.wandb_server import WandbServer
from training.config import TrackingConfig
from training.monitoring.tracking import Tracker

Start = Callable[..., Tracker]

CONFIG: Json = {"model": {"num_layers": 2}, "run": {"name": "small"}}


@pytest.fixture(autouse=True)
def no_wandb_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the person's own: no key, no netrc, no settings file, no error reports."""
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / ".netrc"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")


@pytest.fixture
def start(tmp_path: Path) -> Start:
    def start(config: TrackingConfig | None = None, **changes: Any) -> Tracker:
        arguments: Json = {"name": "small", "job_type": "generator"}
        arguments |= {"folder": tmp_path / "run", "resolved": CONFIG, **changes}
        return Tracker.start(config or TrackingConfig(group="demo", tags=("a",)), **arguments)

    return start


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with WandbServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server
