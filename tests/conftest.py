"""What holds for every test."""

import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bases import lay_out_bases

# A shell that starts us in the background has us ignore Ctrl-C, and what is ignored is
# inherited by every process that a test starts and then interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def bases_on_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("hub")
    lay_out_bases(home)
    return home / "hub"


@pytest.fixture
def hub_of_bases(bases_on_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub as its cache has it after a download of the `config.json` of all bases."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(bases_on_disk))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    """Undo what a verb that runs in this process does to the loggers (console.set_up)."""
    loggers = [
        logging.getLogger(name) for name in ("launch", "training", "parallel", "checkpoints")
    ]
    before = [(list(logger.handlers), logger.level) for logger in loggers]
    yield
    for logger, (handlers, level) in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers
        logger.setLevel(level)
