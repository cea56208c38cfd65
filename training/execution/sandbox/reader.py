"""Reads programs: cuts and compiles them, and decides which tier runs them.

Parsing happens in a jailed process of its own, because CPython's parser is C code and its input
is untrusted: ten thousand nested parentheses must not crash the training process. The same
process passes the programs that tier 1 may run to Monty (monty.py), if it has one. A request
holds many programs, since a trip to this process costs as much as reading one.
"""

import ast
import gc
import signal
import unicodedata
import warnings
from typing import Any, Literal, NoReturn

from training.execution import programs
from training.execution.sandbox import channel, cutting, dialect, program
from training.execution.sandbox.monty import Feed, Monty, is_self_contained

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
    """Answer requests `{programs, monty}` by `{replies}` until the channel closes.

    A program is `{code, kind}`, which is read; or `{code, question}`, which is cut, and read if
    `kind` is given as well. With `monty` true, programs that tier 1 may run are run there, and
    their replies hold the fields of `Monty.run` as well.

    If reading a program takes more than `timeout_seconds` of CPU time, SIGPROF ends this process:
    nothing else stops CPython's compiler.

    Raises:
        ChannelClosed: the parent has closed the channel.
    """
    warnings.simplefilter("ignore")  # warnings about programs' code, which nobody would read
    gc.freeze()  # syntax trees are many objects, and would have the collector look at all others
    while True:
        request = channel.receive(control)
        replies: list[dict[str, Any]] = []
        feeds: dict[int, Feed] = {}
        for index, wanted in enumerate(request["programs"]):
            signal.setitimer(signal.ITIMER_PROF, timeout_seconds)
            reply = _reply(wanted)
            # Only Monty needs it, and it may be longer than a reply may be.
            feed = reply.pop("feed", None)
            if feed is not None:
                feeds[index] = feed
            replies.append(reply)
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        if monty is not None and request["monty"]:
            for index, answer in monty.run(feeds):
                replies[index] |= answer
        channel.send(control, {"replies": replies})


def _reply(wanted: dict[str, Any]) -> dict[str, Any]:
    kind = wanted.get("kind")
    if "question" not in wanted:
        return read(wanted["code"], wanted["kind"])
    try:
        cut = cutting.cut(wanted["code"], wanted["question"])
    except cutting.CutError as error:
        return {"uncut": program.one_line(error)}
    except MemoryError:
        return {"uncut": "the code does not parse: too deeply nested", "memory": True}
    reply: dict[str, Any] = {
        "question": cut.question,
        "program": cut.program,
        "repairs": list(cut.repairs),
    }
    if kind is None:
        return reply
    # What runs is what the model will write, not what the source held.
    code = programs.source(cut.question, cut.program)
    tree = cut.tree if code.rstrip("\n") == cut.text.rstrip("\n") else None
    return reply | read(code, kind, tree)


def read(code: str, kind: str, tree: ast.Module | None = None) -> dict[str, Any]:
    """Compile a program: `{"error": …}` if it does not compile, else `{"weight", "feed"}`.

    `weight` is the zygote that would run it in tier 2. `feed` is what tier 1 is to run; None if
    it may not run this program. With `"memory": true` beside it, the error may be due to the
    state of this process rather than to the program: only a new process that reports the same
    error confirms it.

    Args:
        code: The program.
        kind: Where its result is, as `Program.kind`.
        tree: Its syntax tree, if it has been parsed.
    """
    feed = None
    try:
        try:
            tree = ast.parse(code, "<program>") if tree is None else tree
            entry = dialect.entry(code, tree, kind)
            if entry is not None:  # it compiles, as all programs of the dialect do
                feed = Feed(code, kind, entry, is_self_contained(tree))
            else:
                compile(tree, "<program>", "exec")
        except (RecursionError, MemoryError):
            # A tree may have fewer levels than a text: CPython judges what lies deeper.
            compile(code, "<program>", "exec")
    except MemoryError:
        return {"error": "MemoryError: too deeply nested to compile", "memory": True}
    except Exception as error:
        return {"error": program.one_line(error)}
    mentioned = {name for name in MODULES["heaviest"] if name in code}
    weight = next(weight for weight, names in MODULES.items() if mentioned <= set(names))
    return {"weight": weight, "feed": feed}
