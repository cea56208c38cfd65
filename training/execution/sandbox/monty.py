"""Tier 1, inside its jail: pydantic-monty, a Python of its own without host access.

It decides only programs of the dialect that it runs like CPython (dialect.py), and only when
they end well; for everything else `run` gives no answer and CPython has the word.

Monty's worker is an executable, which has to be started, load its libraries and start a
thread. So this process installs a filter of system calls with a supervisor (entry.py), who
allows all of that, starts the worker, which inherits the filter, runs a first program, and
then has the supervisor leave. From there on worker and client can compute and talk to each
other, and nothing else.
"""

import contextlib
import os
from typing import Any

from training.execution.sandbox.lockdown import ChildLimits

_FEED_SECONDS = 0.02
"""Word-problem programs take 0.1 ms here, 99.95 % of them less than 1 ms. A longer one is a loop,
and CPython's to judge: Monty runs loops 1 to 20 times slower, so that a program out of time here
may be in time there. Ended early, a loop costs little more than the time it has in CPython."""
_MEMORY_BYTES = 32 << 20
_RECURSION_DEPTH = 200

# Only a number or a type's name crosses over, whatever the program returned.
_EPILOGUE = """
_answer_ = {entry}
_answer_ if isinstance(_answer_, (int, float)) else type(_answer_).__name__
"""


class Monty:
    """Monty's client and its one worker.

    Made while all files can be reached; `start` comes when privileges are dropped and the
    filter is in place.
    """

    def __init__(self, limits: ChildLimits) -> None:
        # Here and not above: most jailed processes, and the parent, have no use for it.
        import pydantic_monty
        from pydantic_monty import _binary

        self._library, self._limits = pydantic_monty, limits
        # By its descriptor: the folders above it may be closed to nobody.
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

        Returns `number` (a float as text) or `type` (the name of what it gave instead), and
        `printed`; an empty dict for what only CPython may judge.

        Raises:
            MontyError: the worker is gone, and this process cannot start another.
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
