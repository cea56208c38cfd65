"""A verb in the mount namespace of another process: PROCESS ESTIMATE VERB ARGUMENTS.

ESTIMATE `unseen`: the disk fills up after it was looked at, as if by somebody else.
"""

import ctypes
import importlib
import os
from collections.abc import Sequence
from typing import Any

from launch.arguments import run

_CLONE_NEWNS = 0x00020000


def main(argv: Sequence[str]) -> int:
    process, estimate, verb, *arguments = argv
    folder = os.getcwd()
    with open(f"/proc/{process}/ns/mnt") as namespace:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(namespace.fileno(), _CLONE_NEWNS):
            raise OSError(ctypes.get_errno(), "setns")
    os.chdir(folder)
    if estimate == "unseen":
        for name in ("checkpoints.store", "training.data.parts", "training.evaluation.work"):
            vars(importlib.import_module(name))["require"] = _unseen
    return importlib.import_module(f"launch.{verb}").main(arguments)


def _unseen(*_: Any, **__: Any) -> None:
    """No look at the disk."""


if __name__ == "__main__":
    run(main)
