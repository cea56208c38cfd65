"""`launch/train.py` in the mount namespace of another process: PROCESS ESTIMATE ARGUMENTS.

ESTIMATE `unseen`: the disk fills up after it was looked at, as if by somebody else.
"""

import ctypes
import os
from collections.abc import Sequence
from typing import Any

_CLONE_NEWNS = 0x00020000


def main(argv: Sequence[str]) -> int:
    process, estimate, *arguments = argv
    folder = os.getcwd()
    with open(f"/proc/{process}/ns/mnt") as namespace:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(namespace.fileno(), _CLONE_NEWNS):
            raise OSError(ctypes.get_errno(), "setns")
    os.chdir(folder)
    from checkpoints import store
    from launch import train

    if estimate == "unseen":
        store.require = _unseen
    return train.main(arguments)


def _unseen(*_: Any, **__: Any) -> None:
    """No look at the disk."""
