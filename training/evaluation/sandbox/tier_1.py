"""Tier 1, inside its jail: pydantic-monty and its worker, one program at a time.

The worker is an executable of its own, which has to be started, load its libraries and start
a thread. So this process installs a filter of system calls with a supervisor (entry.py), who
allows all of that, starts the worker, which inherits the filter, runs a first program, and then
has the supervisor leave. From there on worker and client can compute and talk to each other,
and nothing else.
"""

import contextlib
import os
from typing import Any, NoReturn

from training.evaluation.sandbox import channel
from training.evaluation.sandbox.zygote import ChildLimits

_FEED_SECONDS = 0.1
"""Word-problem programs take 0.1 ms here; a longer one is a loop, and CPython's to judge."""
_MEMORY_BYTES = 32 << 20
_RECURSION_DEPTH = 200

# Only a number or a type's name crosses over, whatever the program returned.
_EPILOGUE = """
_answer_ = {entry}
_answer_ if isinstance(_answer_, (int, float)) else type(_answer_).__name__
"""

_binary = -1


def preload() -> None:
    """Import the client and find the worker's executable, while all files can be reached."""
    global _binary
    from pydantic_monty import _binary as library

    _binary = os.open(library.find_monty_binary(), os.O_PATH | os.O_CLOEXEC)


class Tier1:
    """Serves requests `{code, entry}` until the channel closes."""

    def __init__(self, control: int, limits: ChildLimits) -> None:
        import pydantic_monty

        self._control, self._limits = control, limits
        # By its descriptor: the folders above it may be closed to nobody.
        self._pool = pydantic_monty.Monty(
            binary_path=f"/proc/self/fd/{_binary}", min_processes=1, max_processes=1
        )
        self._stack = contextlib.ExitStack()

    def start(self) -> None:
        """Start the worker and run a first program, so that all it needs is loaded."""
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 2)  # the worker inherits it
        os.close(null)
        self._stack.enter_context(self._pool)
        self._run("def f(): print(1.5)", "f() or 2")

    def serve(self) -> NoReturn:
        """Answer requests for ever; ends by ChannelClosed, or by the worker's death."""
        while True:
            request = channel.receive(self._control)
            channel.send(self._control, self._run(request["code"], request["entry"]))

    def _run(self, code: str, entry: str) -> dict[str, Any]:
        """`{}` for what only CPython may judge, else `number` or `type`, and `printed`."""
        import pydantic_monty

        output = pydantic_monty.CollectString(self._limits.max_output_bytes)
        try:
            with self._pool.checkout(
                limits={
                    "max_feed_duration_secs": min(_FEED_SECONDS, self._limits.timeout_seconds),
                    "max_memory": min(_MEMORY_BYTES, self._limits.memory_bytes),
                    "max_recursion_depth": _RECURSION_DEPTH,
                },
                os_policy={"sleep": "zero"},
            ) as session:
                value = session.feed_run(
                    code + "\n" + _EPILOGUE.format(entry=entry), print_callback=output
                )
        except pydantic_monty.MontyCrashedError:
            raise  # nothing can be started any more: this process ends, and another is started
        except pydantic_monty.MontyError:
            return {}  # errors are never tier 1's to declare
        answer: dict[str, Any] = {"printed": output.output}
        if isinstance(value, str):
            return answer | {"type": value}
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return answer | {"type": type(value).__name__}
        try:
            return answer | {"number": repr(float(value))}
        except OverflowError:
            return answer | {"type": "int"}
