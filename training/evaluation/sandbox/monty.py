"""Tier 1: pydantic-monty, a Python of its own without host access, in its own processes.

It decides only programs of the dialect that it runs like CPython (dialect.py), and only
when they end well; for everything else `run` returns None and CPython has the word.
"""

import contextlib
from dataclasses import dataclass
from types import TracebackType

import pydantic_monty
from typing_extensions import Self

from training.evaluation.sandbox.jail import Limits

_FEED_SECONDS = 0.02
"""Word-problem programs take 0.1 ms here, 99.95 % of them less than 1 ms. A longer one is a loop,
and CPython's to judge: Monty runs loops 1 to 20 times slower, so that a program out of time here
may be in time there. Ended early, a loop costs little more than the time it has in CPython."""
_KILL_AFTER_SECONDS = 0.4
_MEMORY_BYTES = 32 << 20
_RECURSION_DEPTH = 200

# Only a number or a type's name crosses over, whatever the program returned.
_EPILOGUE = """
_answer_ = {entry}
_answer_ if isinstance(_answer_, (int, float)) else type(_answer_).__name__
"""


@dataclass(frozen=True)
class Answer:
    """How a program ended that ended well."""

    value: int | float | str
    """Its number, or the name of the type it gave instead."""
    printed: str


class MontyPool:
    """Monty's worker processes, shared by the threads of one executor."""

    def __init__(self, limits: Limits, num_workers: int) -> None:
        self._limits = limits
        self._pool = pydantic_monty.Monty(
            min_processes=1,
            max_processes=num_workers,
            request_timeout=_FEED_SECONDS + _KILL_AFTER_SECONDS,
        )
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._pool)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def run(self, code: str, entry: str) -> Answer | None:
        """Run a program and evaluate `entry`; None when tier 1 cannot tell how it ends."""
        output = pydantic_monty.CollectString(self._limits.max_output_bytes)
        try:
            with self._pool.checkout(
                limits={
                    "max_feed_duration_secs": min(_FEED_SECONDS, self._limits.timeout_seconds),
                    "max_memory": min(_MEMORY_BYTES, self._limits.memory_mib << 20),
                    "max_recursion_depth": _RECURSION_DEPTH,
                },
                os_policy={"sleep": "zero"},
            ) as session:
                value = session.feed_run(
                    code + "\n" + _EPILOGUE.format(entry=entry), print_callback=output
                )
        except Exception:
            # Any failure, the worker's death included: errors are never tier 1's to declare.
            return None
        if isinstance(value, bool):
            value = "bool"
        return Answer(value, output.output) if isinstance(value, (int, float, str)) else None
