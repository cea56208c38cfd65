"""Reads programs without running them: do they compile, and which tier judges them?

Parsing is done in a jailed process of its own: CPython's parser is C code that meets text
nobody has read, and a nest of ten thousand parentheses must not reach the training process.
The same process hands what tier 1 may judge on to Monty (monty.py), if it has one.
"""

import ast
import signal
import unicodedata
import warnings
from typing import Any, Literal, NoReturn

from training.execution.sandbox import channel, dialect, program
from training.execution.sandbox.monty import Monty

MAX_SOURCE_CHARACTERS = 100_000
"""Longest program that is looked at; 20 times the longest seen from a trained model."""

assert unicodedata  # CPython loads it to compile a name that is not ASCII: too late in the jail

Weight = Literal["light", "heavy", "heaviest"]

MODULES: dict[Weight, tuple[str, ...]] = {
    "light": (),
    "heavy": ("numpy", "sympy"),
    "heaviest": ("numpy", "sympy", "pandas", "scipy"),
}
"""A program that mentions one of these goes to the lightest zygote that has loaded it."""


def serve(control: int, timeout_seconds: float, monty: Monty | None) -> NoReturn:
    """Answer requests `{code, kind, monty}` for ever; ends by ChannelClosed.

    With `monty` true, what tier 1 may judge is run there, and the reply has its answer too
    (`Monty.run`).

    Reading that takes more than `timeout_seconds` of CPU time ends this process, by SIGPROF:
    nothing else stops CPython's compiler.
    """
    warnings.simplefilter("ignore")  # about what programs do, to nobody's use
    while True:
        request = channel.receive(control)
        signal.setitimer(signal.ITIMER_PROF, timeout_seconds)
        reply = read(request["code"], request["kind"])
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        # Nobody else has a use for it, and it may be longer than a reply.
        entry = reply.pop("entry", None)
        if monty is not None and request["monty"] and entry is not None:
            reply |= monty.run(request["code"], entry)
        channel.send(control, reply)


def read(code: str, kind: str) -> dict[str, Any]:
    """`{"error": …}` if it does not compile, else `{"weight", "entry"}`.

    `entry` is the expression that asks for the program's result where tier 1 may judge it, else
    None; `weight` is the zygote that would run it in tier 2. With
    `"memory": true` beside the error, the error may be the state of this process and not the
    program: a new process has to say the same before it counts.
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
        # A tree is built of fewer levels than are compiled: what has more is CPython's.
        entry = dialect.entry(code, ast.parse(code, "<program>"), kind)
    except (RecursionError, MemoryError):
        entry = None
    return {"weight": weight, "entry": entry}
