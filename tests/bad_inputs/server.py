"""Starts verbs of `launch/` as ranks, quickly: a process that has imported the libraries forks.

Reads one JSON request a line from standard input: `module` (with a `main`), `argv`,
`environments` (one for each rank), `outputs` (one path for each rank, for `.out` and `.err`),
`cwd`, `seconds`. Answers with one line: the exit codes, negative for a signal, None for a rank
that had to be killed.

The libraries take ten seconds to import, and a hundred bad inputs on one and two ranks are three
hundred processes. What a rank does from `main` on is the same as in a process of its own.
"""

import importlib
import json
import os
import signal
import sys
import time
import traceback
import warnings
from typing import Any

from parallel import ranks

LIBRARIES = (
    "torch.distributed.nn.functional",
    "transformers",
    "deepspeed",
    "training.run",
    "training.evaluation.sample",
    "training.evaluation.evaluate",
    "training.data.prepare",
    "training.report",
    "checkpoints.export",
)


def main() -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print on import is no reply
    warnings.simplefilter("ignore")
    for name in LIBRARIES:
        importlib.import_module(name)
    # No launcher is here to end the other ranks when the first is gone.
    ranks.SECONDS_FOR_FIRST = 0.1
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        each = zip(request["environments"], request["outputs"], strict=True)
        children = [_start(request, environment, output) for environment, output in each]
        print(json.dumps(_wait(children, request["seconds"])), file=replies, flush=True)


def _start(request: dict[str, Any], environment: dict[str, str], output: str) -> int:
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        for descriptor, suffix in ((1, ".out"), (2, ".err")):
            file = os.open(output + suffix, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(file, descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(environment)
        module = importlib.import_module(request["module"])
        sys.argv = [os.path.relpath(str(module.__file__)), *request["argv"]]
        from launch.arguments import run

        run(module.main)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    else:
        code = 70  # `run` always ends the process
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _wait(children: list[int], seconds: float) -> list[int | None]:
    deadline = time.monotonic() + seconds
    codes: dict[int, int | None] = {}
    while len(codes) < len(children):
        for child in children:
            if child in codes:
                continue
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                codes[child] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                codes[child] = None
        time.sleep(0.01)
    return [codes[child] for child in children]


if __name__ == "__main__":
    main()
