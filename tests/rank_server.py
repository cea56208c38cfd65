"""Starts ranks quickly: a process that has imported the libraries forks (tests/ranks.py asks).

Reads one JSON request a line from standard input: `command` (what follows `python`), `cwd`,
`environment`, `output` (a path: `.out` and `.err` are written there). Answers each with a line:
the process id. When that process has ended, `OUTPUT.code` says how, negative for a signal.

The libraries take ten seconds to import, and the tests start hundreds of ranks. From its first
line on, a script runs here as in a process of its own, and ends as one.
"""

import gc
import importlib
import json
import os
import runpy
import select
import sys
import warnings
from pathlib import Path
from typing import Any

from parallel import ranks

_LIBRARIES = (
    "torch.distributed.nn.functional",
    "transformers",
    "deepspeed",
    "training.stages.runs.train",
    "training.stages.runs.sample",
    "training.stages.runs.evaluate",
    "training.data.prepare",
    "training.data.shards",
    "parallel.tensor",
    "training.report",
    "checkpoints.export",
)
_SECONDS_BETWEEN_LOOKS = 0.01


def serve() -> dict[str, Any]:
    """Answer requests. Returns in the processes that are started, with their request."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print on import is no reply
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in _LIBRARIES:
            importlib.import_module(name)
    gc.freeze()  # at its end each process would look at, and so copy, all that they hold
    # No launcher is here to end the other ranks when the first is gone.
    ranks.SECONDS_FOR_FIRST = 0.1
    outputs: dict[int, str] = {}
    waiting = b""
    while True:
        if select.select([0], [], [], _SECONDS_BETWEEN_LOOKS)[0]:
            part = os.read(0, 1 << 16)
            if not part:
                os._exit(0)
            waiting += part
        *lines, waiting = waiting.split(b"\n")
        for line in lines:
            request = json.loads(line)
            child = os.fork()
            if not child:
                replies.close()
                return request
            outputs[child] = request["output"]
            print(child, file=replies, flush=True)
        for child in list(outputs):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                _report(outputs.pop(child), os.waitstatus_to_exitcode(status))


def _report(output: str, code: int) -> None:
    temporary = Path(f"{output}.tmp")
    temporary.write_text(str(code))
    temporary.rename(f"{output}.code")


def become(request: dict[str, Any]) -> None:
    """Be what `python command...` would be."""
    os.setsid()
    for descriptor, suffix in ((1, ".out"), (2, ".err")):
        file = os.open(request["output"] + suffix, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, descriptor)
        os.close(file)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    first, *arguments = request["command"]
    if first == "-c":
        sys.argv = [first, *arguments[1:]]
        exec(compile(arguments[0], "<string>", "exec"), {"__name__": "__main__"})
    elif first == "-m":
        sys.argv = arguments
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *arguments]
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    become(serve())
