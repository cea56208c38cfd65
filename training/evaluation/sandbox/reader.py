"""Reads programs without running them: do they compile, and which tier judges them?

Parsing is done in a jailed process of its own: CPython's parser is C code that meets text
nobody has read, and a nest of ten thousand parentheses must not reach the training process.
"""

import ast
import unicodedata
import warnings
from typing import Any

from training.evaluation.sandbox import channel, dialect, program

MAX_SOURCE_CHARACTERS = 100_000
"""Longest program that is looked at; 20 times the longest seen from a trained model."""

assert unicodedata  # CPython loads it to compile a name that is not ASCII: too late in the jail

HEAVY_MODULES = ("numpy", "sympy")
"""A program that mentions one of these goes to a zygote of its own that has loaded them."""


def serve(control: int) -> None:
    """Answer requests for ever; ends by ChannelClosed."""
    warnings.simplefilter("ignore")  # about what programs do, to nobody's use
    while True:
        request = channel.receive(control)
        channel.send(control, read(request["code"], request["kind"]))


def read(code: str, kind: str) -> dict[str, Any]:
    """`{"error": …}` if it does not compile, else `{"tier", "heavy", "entry"}`.

    `entry` is the expression that asks for the program's result, for tier 1 only.
    """
    try:
        tree = ast.parse(code, "<program>")
        compile(tree, "<program>", "exec")  # finds `return` outside a function and its like
    except MemoryError:
        return {"error": "MemoryError: too deeply nested to compile"}
    except Exception as error:
        return {"error": program.one_line(error)}
    heavy = any(name in code for name in HEAVY_MODULES)
    try:
        entry = dialect.entry(code, tree, kind)
    except RecursionError:
        entry = None
    return {"tier": "cpython" if entry is None else "monty", "heavy": heavy, "entry": entry}
