"""Runs one program in the forked child and reports its result as a short text.

At this point only the kernel contains the program. The program may even rewrite this code in
its own copy of the process, so a report is a claim and is trusted no more than the program.
"""

import io
import json
import os
import sys
from collections.abc import Callable
from decimal import Decimal
from numbers import Real
from types import CodeType, FunctionType
from typing import Any, NoReturn

from training.execution.numbers import last_number

_MAX_ERROR = 200
_FILENAME = "<program>"


def run(code: str, kind: str, *, result: int, token: str, max_output_bytes: int) -> NoReturn:
    """Run `code`, write one report to the descriptor `result`, end the process.

    The report is `token` and then JSON: `status`, and `number` or `error`.
    """
    write, end, dumps = os.write, os._exit, json.dumps

    def report(status: str, **fields: str) -> NoReturn:
        short = {name: text[:_MAX_ERROR] for name, text in fields.items()}
        write(result, (token + dumps({"status": status, **short})).encode("ascii"))
        end(0)

    left = max_output_bytes

    def count(num_bytes: int) -> None:
        nonlocal left
        left -= num_bytes
        if left < 0:
            report("output", error="printed too much")

    output = _Output(count)
    sys.stdin = io.TextIOWrapper(io.BytesIO())
    sys.stdout, sys.stderr = output, _Output(count)
    try:
        value = _outcome(code, kind, output)
        if kind == "stdout-last" and value is None:
            report("nonnumeric", error="gave a line, no finite number")
        number = number_text(value)
        if number is None:
            report("nonnumeric", error=f"gave {type(value).__name__}")
        report("ok", number=number)
    except MemoryError:
        report("memory", error="MemoryError")
    except BaseException as error:
        report("error", error=one_line(error))


class _Output(io.TextIOBase):
    """Standard output or standard error of a program, whose bytes count against its limit."""

    def __init__(self, count: Callable[[int], None]) -> None:
        self._count = count
        self.parts: list[str] = []
        self.buffer = _Bytes(self)

    def write(self, text: str, /) -> int:
        # Exact, and without encoding where each character is one byte.
        self._count(len(text) if text.isascii() else len(text.encode("utf-8", "replace")))
        self.parts.append(text)
        return len(text)

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return "utf-8"

    def reconfigure(self, **settings: object) -> None:
        """What programs set here (encoding, buffering) makes no difference."""


class _Bytes(io.RawIOBase):
    """`sys.stdout.buffer`: bytes written to it count as output."""

    def __init__(self, output: _Output) -> None:
        self._output = output

    def writable(self) -> bool:
        return True

    def write(self, content: Any, /) -> int:
        text = bytes(content).decode("utf-8", "replace")
        self._output.write(text)
        return len(bytes(content))


def _outcome(code: str, kind: str, output: _Output) -> Any:
    """The result: of calling a function, of reading a variable, or the last printed number."""
    compiled = compile(code, _FILENAME, "exec")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compiled, namespace)
    if kind == "stdout-last":
        return last_number("".join(output.parts))
    how, _, name = kind.partition(":")
    if how == "var":
        return namespace[name]
    return _entry(name, namespace, compiled)()


def _entry(name: str, namespace: dict[str, Any], compiled: CodeType) -> Callable[[], Any]:
    """The function called `name`, or else the first that the program defines.

    Models occasionally rename the function; its result is still their answer.
    """
    if name in namespace:
        return namespace[name]
    for value in list(namespace.values()):
        if isinstance(value, FunctionType) and value.__code__ in compiled.co_consts:
            return value
    raise NameError(f"the program defines no function {name}")


def number_text(value: Any) -> str | None:
    """A real number as a float in text form (`repr`, so exact); None for anything else.

    Accepts integers, floats, fractions, decimals and the numbers of numpy and sympy. Rejects
    truth values, complex numbers, strings and numbers beyond a float's range.
    """
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()  # numpy's scalars, and arrays of no dimension
    if isinstance(value, (bool, str, bytes)):
        return None
    is_number = isinstance(value, (Real, Decimal)) or (
        getattr(value, "is_number", False) is True and getattr(value, "is_real", False) is True
    )
    if not is_number:
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return repr(number) if abs(number) < float("inf") else None


def num_escapes() -> int:
    """Try each way out of the sandbox once; returns how many worked, which must be 0."""
    import ctypes

    attempts: list[Callable[[], object]] = [
        lambda: open("/etc/passwd").read(),
        lambda: open("/dev/null", "w"),
        lambda: 1 / (ctypes.CDLL(None).socket(2, 1, 0) + 1),
        lambda: os.fork() or os._exit(0),
        lambda: os.kill(os.getppid(), 0),
        lambda: os.execv("/bin/true", ["true"]),
    ]
    return sum(map(_is_done, attempts))


def _is_done(action: Callable[[], object]) -> bool:
    try:
        action()
    except BaseException:
        return False
    return True


def one_line(error: BaseException) -> str:
    """`ZeroDivisionError: division by zero`, on one line and short."""
    try:
        message = str(error)[:_MAX_ERROR]
    except BaseException:
        message = ""
    name = type(error).__name__
    return " ".join(f"{name}: {message}".split()) if message else name
