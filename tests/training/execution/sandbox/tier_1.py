# pyright: reportPrivateUsage=false
"""Tier 1 alone: programs go straight to it, past the dialect that sends them elsewhere."""

import pytest
from typing_extensions import Self

from training.execution.executor import Limits
from training.execution.sandbox import channel, jail
from training.execution.sandbox.jail import Jail, JailDied

READ_NOTHING = (
    "from training.execution.sandbox import monty, reader; "
    "reader.read = lambda code, kind: dict(feed=monty.Feed(code, 'func:f', kind, False)); "
)


class Tier1:
    """A jail whose reader takes every program for one of tier 1; a context manager."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._jail = limits, Jail("monty", limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._jail.close()

    def run(self, code: str, entry: str) -> float | str | None:
        """What `entry` gives, a number or the name of a type.

        None where tier 1 leaves the program to CPython.
        """
        with pytest.MonkeyPatch.context() as patched:  # it may have to be started again
            patched.setattr(jail, "_START", jail._START.replace("main()", READ_NOTHING + "main()"))
            try:
                request = {"programs": [{"code": code, "kind": entry}], "monty": True}
                (reply,) = self._jail.ask(request, seconds=5.0)["replies"]
            except JailDied:
                return None
        number = channel.number(reply, "number")
        return reply.get("type") if number is None else number
