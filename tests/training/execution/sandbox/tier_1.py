# pyright: reportPrivateUsage=false
"""Tier 1 alone: programs go straight to it, past the dialect that sends them elsewhere."""

import pytest
from typing_extensions import Self

from training.execution import executor
from training.execution.executor import Limits
from training.execution.sandbox import jail
from training.execution.sandbox.jail import Jail, JailDied

READ_NOTHING = (
    "from training.execution.sandbox import reader; "
    "reader.read = lambda code, kind: dict(entry=kind); "
)


class Tier1:
    """A jail whose reader takes every program for one of tier 1; a context manager."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._jail = limits, Jail("monty", limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._jail.close()

    def run(self, code: str, entry: str) -> tuple[float | str, str] | None:
        """What `entry` gives, a number or the name of a type, and what was printed.

        None where tier 1 leaves the program to CPython.
        """
        with pytest.MonkeyPatch.context() as patched:  # it may have to be started again
            patched.setattr(jail, "_START", jail._START.replace("main()", READ_NOTHING + "main()"))
            try:
                reply = self._jail.ask({"code": code, "kind": entry, "monty": True}, seconds=5.0)
            except JailDied:
                return None
        return executor._answer(reply, self._limits)
