"""Compiles programs without running them, and decides which tier runs them.

Parsing happens in a jailed process of its own, because CPython's parser is C code and its input
is untrusted: ten thousand nested parentheses must not crash the training process. The same
process passes the programs that tier 1 may run to Monty (monty.py), if it has one.
"""

import ast
import signal
import unicodedata
import warnings
from typing import Any, Literal, NoReturn

from training.execution.sandbox import channel, dialect, program
from training.execution.sandbox.monty import Monty

MAX_SOURCE_CHARACTERS = 100_000
"""Longer programs are refused; 20 times the longest that a trained model wrote."""

assert unicodedata  # CPython loads it to compile a non-ASCII name, which the jail would refuse

Weight = Literal["light", "heavy", "heaviest"]

MODULES: dict[Weight, tuple[str, ...]] = {
    "light": (),
    "heavy": ("numpy", "sympy"),
    "heaviest": ("numpy", "sympy", "pandas", "scipy"),
}
"""Modules loaded by each zygote; a program runs in the lightest one that has those it names."""


def serve(control: int, timeout_seconds: float, monty: Monty | None) -> NoReturn:
    """Answer requests `{code, kind, monty}` until the channel closes.

    With `monty` true, programs that tier 1 may run are run there, and the reply holds the fields
    of `Monty.run` as well.

    If reading a program takes more than `timeout_seconds` of CPU time, SIGPROF ends this process:
    nothing else stops CPython's compiler.

    Raises:
        ChannelClosed: the parent has closed the channel.
    """
    warnings.simplefilter("ignore")  # warnings about programs' code, which nobody would read
    while True:
        request = channel.receive(control)
        signal.setitimer(signal.ITIMER_PROF, timeout_seconds)
        reply = read(request["code"], request["kind"])
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        # Only Monty needs it, and it may be longer than a reply may be.
        entry = reply.pop("entry", None)
        if monty is not None and request["monty"] and entry is not None:
            reply |= monty.run(request["code"], entry)
        channel.send(control, reply)


def read(code: str, kind: str) -> dict[str, Any]:
    """Compile a program: `{"error": …}` if it does not compile, else `{"weight", "entry"}`.

    `weight` is the zygote that would run it in tier 2. `entry` is the expression that gives its
    result in tier 1; None if tier 1 may not run it. With `"memory": true` beside it, the error
    may be due to the state of this process rather than to the program: only a new process that
    reports the same error confirms it.
    """
    try:
        compile(code, "<program>", "exec")
    except MemoryError:
        return {"error": "MemoryError: too deeply nested to compile", "memory": True}
    except Exception as error:
        return {"error": program.one_line(error)}
    mentioned = {name for name in MODULES["heaviest"] if name in code}
    weight = next(weight for weight, names in MODULES.items() if mentioned <= set(names))
    try:
        # `ast.parse` allows fewer levels than `compile`: deeper programs are left to CPython.
        entry = dialect.entry(code, ast.parse(code, "<program>"), kind)
    except (RecursionError, MemoryError):
        entry = None
    return {"weight": weight, "entry": entry}
