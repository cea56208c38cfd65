"""Runs programs in tier 1: pydantic-monty, a Python interpreter without access to the host.

It runs only programs of the dialect in which it agrees with CPython (dialect.py), and its result
counts only if they end without an error. For all others `run` gives no result, and CPython runs
them.

Monty's worker is an executable that has to be started, load its libraries and start a thread. So
this process installs a filter of system calls with a supervisor (entry.py) that allows all of
that, starts the worker, which inherits the filter, runs a first program, and then ends the
supervision. After that worker and client can only compute and exchange messages.
"""

import contextlib
import os
from typing import Any

from training.execution.sandbox.lockdown import ChildLimits

_FEED_SECONDS = 0.02
"""Word-problem programs take 0.1 ms here, 99.95 % of them less than 1 ms. A longer one is a loop
and is left to CPython: Monty runs loops 1 to 20 times slower, so a program may exceed its time
here and not there. As it is ended early, a loop costs little more than its time in CPython."""
_MEMORY_BYTES = 32 << 20
_RECURSION_DEPTH = 200

# Only a number or the name of a type leaves the worker, whatever the program returned.
_EPILOGUE = """
_answer_ = {entry}
_answer_ if isinstance(_answer_, (int, float)) else type(_answer_).__name__
"""


class Monty:
    """Monty's client and its one worker.

    Created while all files can still be opened; `start` follows when privileges are dropped and
    the filter is installed.
    """

    def __init__(self, limits: ChildLimits) -> None:
        # Imported here, as the parent and most jailed processes do not need it.
        import pydantic_monty
        from pydantic_monty import _binary

        self._library, self._limits = pydantic_monty, limits
        # Started by its descriptor: user nobody may have no access to the folders above it.
        self._binary = os.open(_binary.find_monty_binary(), os.O_PATH | os.O_CLOEXEC)
        self._stack = contextlib.ExitStack()

    def start(self) -> None:
        """Start the worker and run a first program, so that all it needs is loaded."""
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 2)  # the worker inherits it
        os.close(null)
        self._pool = self._stack.enter_context(
            self._library.Monty(
                binary_path=f"/proc/self/fd/{self._binary}", min_processes=1, max_processes=1
            )
        )
        self.run("def f(): print(1.5)", "f() or 2")

    def run(self, code: str, entry: str) -> dict[str, Any]:
        """Run a program and evaluate `entry`.

        Returns `number` (a float as text) or `type` (the name of the type of another result), and
        `printed`; an empty dict for a program that only CPython may run.

        Raises:
            MontyError: the worker has died, and this process cannot start another.
        """
        output = self._library.CollectString(self._limits.max_output_bytes)
        session_of_worker = self._pool.checkout(
            limits={
                "max_feed_duration_secs": min(_FEED_SECONDS, self._limits.timeout_seconds),
                "max_memory": min(_MEMORY_BYTES, self._limits.memory_bytes),
                "max_recursion_depth": _RECURSION_DEPTH,
            },
            os_policy={"sleep": "zero"},
        )
        with session_of_worker as session:
            try:
                value = session.feed_run(
                    code + "\n" + _EPILOGUE.format(entry=entry), print_callback=output
                )
            except self._library.MontyCrashedError:
                raise
            except self._library.MontyError:
                return {}  # an error counts only if CPython reports it
        answer: dict[str, Any] = {"printed": output.output}
        if isinstance(value, str):
            return answer | {"type": value}
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return answer | {"type": type(value).__name__}
        try:
            return answer | {"number": repr(float(value))}
        except OverflowError:
            return answer | {"type": "int"}
