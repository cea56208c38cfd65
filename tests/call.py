"""Calls one function on one rank: python -m tests.call MODULE:FUNCTION FOLDER.

`run_distributed` of tests/ranks.py starts it. FOLDER/arguments.pickle holds the arguments after
`ranks`; what the function returns is written to FOLDER/RANK.pickle.
"""

import importlib
import os
import pickle
import sys
from pathlib import Path

import torch

from parallel.ranks import discover


def main(name: str, folder: Path) -> None:
    module, _, function = name.partition(":")
    ranks = discover()
    ranks.connect(torch.device("cpu"))
    arguments = pickle.loads((folder / "arguments.pickle").read_bytes())
    result = getattr(importlib.import_module(module), function)(ranks, *arguments)
    (folder / f"{ranks.rank}.pickle").write_bytes(pickle.dumps(result))
    ranks.disconnect()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
    sys.stdout.flush()
    sys.stderr.flush()
    # The end of an interpreter writes to all its objects, of which a forked rank then needs its own
    # copy: 200 MB, which 64 ranks do not have.
    os._exit(0)
