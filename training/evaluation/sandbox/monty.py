"""Tier 1: pydantic-monty, a Python of its own without host access, in jailed processes.

It decides only programs of the dialect that it runs like CPython (dialect.py), and only
when they end well; for everything else `run` returns None and CPython has the word. This is
the parent's side; tier_1.py is the jailed one.
"""

import contextlib
import queue
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from typing_extensions import Self

from training.evaluation.sandbox import channel
from training.evaluation.sandbox.jail import Jail, JailDied, Limits

_ANSWER_SECONDS = 2.0
"""Within which a program of 0.1 s is answered, but on the most crowded machine: then CPython
judges it, with the same result."""
_MAX_NAME = 200


@dataclass(frozen=True)
class Answer:
    """How a program ended that ended well."""

    value: float | str
    """Its number, or the name of the type it gave instead."""
    printed: str


class MontyPool:
    """Jailed interpreters, shared by the threads of one executor."""

    def __init__(self, limits: Limits, num_workers: int) -> None:
        self._limits = limits
        self._jails = [Jail("monty", limits) for _ in range(num_workers)]
        self._free: queue.LifoQueue[Jail] = queue.LifoQueue()
        for jail in reversed(self._jails):
            self._free.put(jail)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Start the first.

        Raises:
            IsolationError: it cannot be jailed here.
        """
        with contextlib.ExitStack() as stack:
            for jail in self._jails:
                stack.callback(jail.close)
            self._jails[0].start()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def layers(self) -> list[str]:
        """Which walls stand around it."""
        return self._jails[0].layers

    def run(self, code: str, entry: str) -> Answer | None:
        """Run a program and evaluate `entry`; None when tier 1 cannot tell how it ends."""
        jail = self._free.get()
        try:
            reply = jail.ask({"code": code, "entry": entry}, seconds=_ANSWER_SECONDS)
        except JailDied:
            return None
        finally:
            self._free.put(jail)
        return _answer(reply, self._limits)


def _answer(reply: dict[str, Any], limits: Limits) -> Answer | None:
    """What a reply says; None if it is not what tier 1 would send."""
    printed = channel.text(reply, "printed", limits.max_output_bytes)
    number = channel.number(reply, "number")
    value = channel.text(reply, "type", _MAX_NAME) if number is None else number
    return None if printed is None or value is None else Answer(value, printed)
