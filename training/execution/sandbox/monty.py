"""Runs programs in tier 1: pydantic-monty, a Python interpreter without access to the host.

It runs only programs of the dialect in which it agrees with CPython (dialect.py), and its result
counts only if they end without an error. For all others `run` gives no result, and CPython runs
them.

Monty's worker is an executable that has to be started, load its libraries and start a thread. So
this process installs a filter of system calls with a supervisor (entry.py) that allows all of
that, starts the worker, which inherits the filter, runs a first program, and then ends the
supervision. After that worker and client can only compute and exchange messages.
"""

import ast
import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from training.execution.numbers import last_number
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


@dataclass(frozen=True, slots=True)
class Feed:
    """A program for Monty."""

    code: str
    kind: str
    """Where the result is, as `Program.kind`."""
    entry: str
    """The expression that gives it."""
    is_self_contained: bool
    """Whether it may run in a session in which other such programs have run."""


def is_self_contained(tree: ast.Module) -> bool:
    """Whether a program of the dialect may run where other such programs have run before it.

    It binds one function and modules, before anything reads them, and reads no other global: its
    other names are bound in the function, where they are local. So it does not depend on names that
    another program has left behind.
    """
    function = None
    for node in tree.body:
        match node:
            case ast.Expr(value=ast.Constant()):
                continue
            case ast.Import() | ast.ImportFrom() if function is None:
                continue
            case ast.FunctionDef(name=name) if function is None and not node.args.defaults:
                function = name
            case ast.Expr(value=ast.Call(func=ast.Name(id="print"), args=arguments, keywords=[])):
                if not all(_calls(argument, function) for argument in arguments):
                    return False
            case _:
                return False
    return function is not None


def _calls(node: ast.expr, function: str | None) -> bool:
    """Whether it is a constant, or calls this function with no arguments."""
    match node:
        case ast.Constant():
            return True
        case ast.Call(func=ast.Name(id=name), args=[], keywords=[]):
            return name == function
        case _:
            return False


class Monty:
    """Monty's client and its one worker.

    Created while all files can still be opened; `start` follows when privileges are dropped and
    the filter is installed.
    """

    def __init__(self, limits: ChildLimits) -> None:
        # Imported here, as the parent and most jailed processes do not need it.
        import pydantic_monty
        from pydantic_monty import _binary

        self._library, self._max_output_bytes = pydantic_monty, limits.max_output_bytes
        self._session_limits = {
            "max_feed_duration_secs": min(_FEED_SECONDS, limits.timeout_seconds),
            "max_memory": min(_MEMORY_BYTES, limits.memory_bytes),
            "max_recursion_depth": _RECURSION_DEPTH,
        }
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
        first = Feed("def f(): print(1.5)", "func:f", "f() or 2", False)
        list(self.run({0: first, 1: first}))

    def run(self, feeds: Mapping[int, Feed]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Run programs, in any order; yields the key of each with its answer.

        An answer holds `number` (a float as text) or `type` (the name of the type of another
        result); it is empty for a program that only CPython may run.

        Raises:
            MontyError: the worker has died, and this process cannot start another.
        """
        # A session costs as much as a program, so those share one that cannot notice it.
        together = {key: feed for key, feed in feeds.items() if feed.is_self_contained}
        remaining = iter(together.items())
        is_done = not together
        while not is_done:
            with self._session() as session:
                is_done = True
                for key, feed in remaining:
                    answer = self._answer(session, feed)
                    yield key, answer
                    if not answer:
                        is_done = False  # an error may have left anything in this session
                        break
        for key, feed in feeds.items():
            if not feed.is_self_contained:
                with self._session() as session:
                    yield key, self._answer(session, feed)

    def _session(self) -> Any:
        return self._pool.checkout(limits=self._session_limits, os_policy={"sleep": "zero"})

    def _answer(self, session: Any, feed: Feed) -> dict[str, Any]:
        output = self._library.CollectString(self._max_output_bytes)
        try:
            value = session.feed_run(
                feed.code + "\n" + _EPILOGUE.format(entry=feed.entry), print_callback=output
            )
        except self._library.MontyCrashedError:
            raise
        except self._library.MontyError:
            return {}  # an error counts only if CPython reports it
        if feed.kind == "stdout-last":
            number = last_number(output.output)
            return {"type": "a line"} if number is None else {"number": repr(number)}
        if isinstance(value, str):
            return {"type": value}
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return {"type": type(value).__name__}
        try:
            return {"number": repr(float(value))}
        except OverflowError:
            return {"type": "int"}
