"""What holds for every test."""

import logging
import signal
from collections.abc import Iterator

import pytest

# A shell that starts us in the background has us ignore Ctrl-C, and what is ignored is
# inherited by every process that a test starts and then interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
