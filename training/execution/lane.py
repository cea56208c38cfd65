"""One lane of the executor: the jailed processes that take one program after another.

    lane.run([Program(code=source)])                     # executions
    lane.cut([RawProgram(code=function)], run=True)      # questions, bodies and executions

The reader gets many programs at a time. A program that ends the reader costs the others of its
request a second reading, one by one, and nothing else. What a jailed process sends is checked
here: it may have been taken over by a program.
"""

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

from training.execution import programs
from training.execution.sandbox import channel, zygote
from training.execution.sandbox.cutting import REPAIRS
from training.execution.sandbox.jail import IsolationError, Jail, JailDied, Limits, OutOfTime
from training.execution.sandbox.reader import MAX_SOURCE_CHARACTERS
from training.records import Execution, ExecutionStatus

_KIND = re.compile(r"(func|var):[^\W\d]\w*|stdout-last")
_STATUSES = frozenset(get_args(ExecutionStatus))
_MAX_WORD, _MAX_ERROR = 20, 300
_MAX_CUT_CHARACTERS = 16 * MAX_SOURCE_CHARACTERS
"""Indenting may lengthen a body."""
_BREAKS_SANDBOX = Execution(status="error", error="it ended its sandbox twice")

_MONTY_SECONDS = 2.0
"""Monty answers within this time, as it ends a program much earlier, except where a single
operation takes longer or the machine is overloaded. CPython then runs the program instead, with
the same result."""

READER_PROGRAMS = 20_000
"""The reader is restarted after so many programs: from Python 3.12 on, CPython never frees the
names it has parsed."""

MAX_TOGETHER = 32
"""Programs of one request to the reader."""
_MAX_CHARACTERS_TOGETHER = 2 * MAX_SOURCE_CHARACTERS


@dataclass(frozen=True, kw_only=True)
class Program:
    """Source code, and where its result is found.

    Raises:
        ValueError: `kind` has none of the three forms.
    """

    code: str
    kind: str = f"func:{programs.FUNCTION}"
    """`func:NAME` calls the function, or the first one defined where there is none of that name;
    `var:NAME` reads the variable; `stdout-last` takes the last line printed."""

    def __post_init__(self) -> None:
        if not _KIND.fullmatch(self.kind):
            raise ValueError(f"kind is {self.kind!r}: set func:NAME, var:NAME or stdout-last")


@dataclass(frozen=True, kw_only=True, slots=True)
class RawProgram:
    """A function as a data set holds it: not parsed yet."""

    code: str
    """With the question as docstring; perhaps with a code fence or prose around it."""
    question: str = ""
    """Wins over the docstring, which may then be missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CutProgram:
    """A `RawProgram` in two parts, or the reason why it cannot be cut."""

    question: str = ""
    program: str = ""
    repairs: tuple[str, ...] = ()
    """What had to be repaired: some of `sandbox.cutting.REPAIRS`."""
    fault: str = ""
    """Why it could not be cut; empty if it was."""
    execution: Execution | None = None
    """The result of running it; None if it was not run."""


class TierOneRefused(IsolationError):
    """Monty cannot be isolated on this system, but CPython can."""


class Lane:
    """One reader with its Monty, and one CPython zygote of each weight.

    Used by one thread at a time.
    """

    def __init__(self, limits: Limits, use_monty: bool) -> None:
        self._limits, self._use_monty = limits, use_monty
        self._reader = Jail("monty" if use_monty else "reader", limits)
        self._light = Jail("light", limits)
        self._heavier = {"heavy": Jail("heavy", limits), "heaviest": Jail("heaviest", limits)}

    @property
    def layers(self) -> list[str]:
        """The isolation of tier 2, of `Jail.layers`."""
        return self._light.layers

    def leave_all_to_cpython(self) -> None:
        """Run nothing in Monty; before the first request."""
        self._use_monty = False
        self._reader = Jail("reader", self._limits)

    def start(self) -> None:
        """Start the reader and the light zygote.

        Raises:
            IsolationError: no isolation can be had here.
            TierOneRefused: there is none for Monty; nothing else was found out.
        """
        self._light.start()
        try:
            self._reader.start()
        except IsolationError as error:
            raise TierOneRefused(str(error)) if self._use_monty else error from None

    def close(self) -> None:
        """End all processes."""
        for jail in (self._reader, self._light, *self._heavier.values()):
            jail.close()

    def run(self, wanted: Sequence[Program]) -> list[Execution]:
        """Run programs; their results in the same order."""
        results: list[Execution] = []
        for group in _in_groups(wanted):
            requests = [{"code": program.code, "kind": program.kind} for program in group]
            start = time.perf_counter()
            replies = self._read(requests)
            seconds = (time.perf_counter() - start) / len(group)
            for request, reply in zip(requests, replies, strict=True):
                results.append(self._timed(request, reply, seconds))
        return results

    def cut(self, wanted: Sequence[RawProgram], *, run: bool) -> list[CutProgram]:
        """Cut programs and, with `run`, run them; the parts in the same order."""
        results: list[CutProgram] = []
        kind = {"kind": f"func:{programs.FUNCTION}"} if run else {}
        for group in _in_groups(wanted):
            requests = [{"code": raw.code, "question": raw.question, **kind} for raw in group]
            start = time.perf_counter()
            replies = self._read(requests)
            seconds = (time.perf_counter() - start) / len(group)
            for reply in replies:
                cut = _cut(reply)
                if run and not cut.fault:
                    request = {"code": programs.source(cut.question, cut.program), **kind}
                    cut = replace(cut, execution=self._timed(request, reply, seconds))
                results.append(cut)
        return results

    def _timed(
        self, request: dict[str, Any], reply: dict[str, Any] | Execution, seconds: float
    ) -> Execution:
        """The result of a program that took `seconds` to read."""
        start = time.perf_counter()
        execution = reply if isinstance(reply, Execution) else self._result(request, reply)
        return replace(execution, seconds=seconds + time.perf_counter() - start)

    def _result(self, request: dict[str, Any], reply: dict[str, Any]) -> Execution:
        """The result in a reader's reply, or CPython's where it holds none."""
        if len(request["code"]) > MAX_SOURCE_CHARACTERS:
            return _too_long(request)
        if "error" in reply:
            error = channel.text(reply, "error", zygote.MAX_REPORT_BYTES) or ""
            return Execution(status="error", error=_one_line(error))
        execution = _from_monty(request["kind"], reply)
        if execution is not None:
            return execution
        weight = channel.text(reply, "weight", _MAX_WORD) or ""
        answer = _ask_twice(self._heavier.get(weight, self._light), request)
        return _BREAKS_SANDBOX if answer is None else _from_cpython(answer)

    def _read(self, requests: list[dict[str, Any]]) -> list[dict[str, Any] | Execution]:
        """The reader's replies, or the results of programs that are not run."""
        if self._reader.num_programs >= READER_PROGRAMS:
            self._reader.close()  # the next request starts another
        replies: list[dict[str, Any]] | None = None
        is_readable = all(_characters(request) <= MAX_SOURCE_CHARACTERS for request in requests)
        if len(requests) > 1 and is_readable:
            try:
                replies = self._ask_reader(requests, monty=True)
            except JailDied:
                replies = None  # one of them ends the process: all alone, then
        if replies is None:
            return [self._read_alone(request) for request in requests]
        return [
            self._read_alone(request) if channel.flag(reply, "memory") else reply
            for request, reply in zip(requests, replies, strict=True)
        ]

    def _read_alone(self, request: dict[str, Any]) -> dict[str, Any] | Execution:
        if _characters(request) > MAX_SOURCE_CHARACTERS:
            return _too_long(request)
        try:
            reply = self._ask_alone(request)
            if reply and channel.flag(reply, "memory") and self._reader.num_programs > 1:
                self._reader.close()
                reply = self._ask_alone(request)
        except OutOfTime:
            return Execution(status="timeout", error="ran out of CPU time while it was compiled")
        return _BREAKS_SANDBOX if reply is None else reply

    def _ask_alone(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Ask with Monty first; where that ends the process, twice without it.

        None: the process died each time.

        Raises:
            OutOfTime: the reply took more CPU time than its limit.
        """
        for monty in (True, False, False):
            try:
                return self._ask_reader([request], monty=monty)[0]
            except OutOfTime:
                raise
            except JailDied:
                continue
        return None

    def _ask_reader(self, requests: list[dict[str, Any]], *, monty: bool) -> list[dict[str, Any]]:
        """One request.

        Raises:
            OutOfTime: a program took more CPU time than its limit.
            JailDied: the reader ended, hung, or sent what is no list of replies.
        """
        request = {"programs": requests, "monty": monty}
        seconds = _MONTY_SECONDS if monty else None
        reply = self._reader.ask(request, seconds, num_programs=len(requests))
        replies = channel.objects(reply, "replies", len(requests))
        if replies is None:
            self._reader.close()
            raise JailDied("the reader sent no replies")
        return replies


def _in_groups(wanted: Sequence[Any]) -> list[list[Any]]:
    """Programs that are read together: not too many, and none that is long beside others."""
    groups: list[list[Any]] = []
    left = 0
    for program in wanted:
        num_characters = len(program.code) + len(getattr(program, "question", ""))
        if not groups or num_characters > left or len(groups[-1]) == MAX_TOGETHER:
            groups.append([])
            left = _MAX_CHARACTERS_TOGETHER
        groups[-1].append(program)
        left -= num_characters
    return groups


def _characters(request: dict[str, Any]) -> int:
    return max(len(request["code"]), len(request.get("question", "")))


def _too_long(request: dict[str, Any]) -> Execution:
    error = f"{_characters(request)} characters: longer than {MAX_SOURCE_CHARACTERS}"
    return Execution(status="error", error=error)


def _ask_twice(jail: Jail, request: dict[str, Any]) -> dict[str, Any] | None:
    """Ask; if the jailed process dies, ask a new one. None: both died."""
    for _ in range(2):
        try:
            return jail.ask(request)
        except JailDied:
            continue
    return None


def _cut(reply: dict[str, Any] | Execution) -> CutProgram:
    """The two parts in a reader's reply."""
    if isinstance(reply, Execution):
        return CutProgram(fault=reply.error)
    question = channel.text(reply, "question", _MAX_CUT_CHARACTERS)
    program = channel.text(reply, "program", _MAX_CUT_CHARACTERS)
    if question is None or program is None:
        fault = channel.text(reply, "uncut", zygote.MAX_REPORT_BYTES)
        return CutProgram(fault=_one_line(fault or "gave no readable parts"))
    named: Any = reply.get("repairs")
    repairs = tuple(each for each in REPAIRS if each in named) if isinstance(named, list) else ()
    return CutProgram(question=question, program=program, repairs=repairs)


def _from_monty(kind: str, reply: dict[str, Any]) -> Execution | None:
    """Monty's result in a reader's reply; None: CPython has to run the program."""
    what = "a line" if kind == "stdout-last" else "a number"
    number = channel.number(reply, "number")
    if number is not None:
        return _numeric(number, what, "monty")
    named = channel.text(reply, "type", _MAX_ERROR)
    return None if named is None else _numeric(None, named, "monty")


def _numeric(number: float | None, what: str, tier: Any) -> Execution:
    if number is None or not math.isfinite(number):
        return Execution(
            status="nonnumeric",
            error=_one_line(f"gave {what[:100]}, no finite number"),
            tier=tier,
        )
    return Execution(status="ok", value=number, tier=tier)


def _from_cpython(reply: dict[str, Any]) -> Execution:
    """Read a reply; its `report` was written by the program's process and may hold anything."""
    claim: dict[str, Any] | None = reply
    if "report" in reply:
        claim = channel.parsed(channel.text(reply, "report", zygote.MAX_REPORT_BYTES) or "")
    status = None if claim is None else channel.text(claim, "status", _MAX_WORD)
    if claim is None or status not in _STATUSES:
        return Execution(status="error", error="gave no readable result", tier="cpython")
    if status != "ok":
        error = channel.text(claim, "error", zygote.MAX_REPORT_BYTES) or ""
        kept = cast(ExecutionStatus, status)
        return Execution(status=kept, error=_one_line(error), tier="cpython")
    return _numeric(channel.number(claim, "number"), "no number", "cpython")


def _one_line(error: str) -> str:
    """An error as it is kept: short, and printable in a terminal and a file."""
    return "".join(c if c.isprintable() else " " for c in error[:_MAX_ERROR])
