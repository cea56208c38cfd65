"""Runs model-written programs in a sandbox and compares their results with gold answers.

    with Executor(limits=Limits(), num_workers=4) as executor:
        executions = executor.run([Program(code=source)])
    verdict = judge(executions[0], gold=72.0)

No program is run, or even parsed, in this process. Tier 1 (`pydantic-monty`) runs plain
programs, which are most of them. Tier 2 (a fresh, jailed CPython per program) runs the others
and every program that fails in tier 1. The sandbox is described in sandbox/__init__.py. Where
no isolation is available, nothing is run. Gold answers stay in this process: `judge` compares
with them, and is a pure function.

This module does not deal with questions, candidates or files.
"""

import logging
import math
import queue
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

from typing_extensions import Self

from training.config import ExecutionConfig
from training.execution.numbers import last_number, parse_number, same_number
from training.execution.sandbox import channel, zygote
from training.execution.sandbox.jail import IsolationError, Jail, JailDied, Limits, OutOfTime
from training.execution.sandbox.reader import MAX_SOURCE_CHARACTERS
from training.records import Execution, ExecutionStatus, Verdict

logger = logging.getLogger(__name__)

__all__ = [
    "Execution",
    "Executor",
    "IsolationError",
    "Limits",
    "Program",
    "judge",
    "parse_number",
    "same_number",
]

_KIND = re.compile(r"(func|var):[^\W\d]\w*|stdout-last")
_STATUSES = frozenset(get_args(ExecutionStatus))
_MAX_WORD, _MAX_ERROR = 20, 300
_BREAKS_SANDBOX = Execution(status="error", error="it ended its sandbox twice")

_MONTY_SECONDS = 2.0
"""Monty answers within this time, as it ends a program much earlier, except where a single
operation takes longer or the machine is overloaded. CPython then runs the program instead, with
the same result."""

READER_PROGRAMS = 20_000
"""The reader is restarted after so many programs: from Python 3.12 on, CPython never frees the
names it has parsed."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """Source code, and where its result is found.

    Raises:
        ValueError: `kind` has none of the three forms.
    """

    code: str
    kind: str = "func:simple_math_problem"
    """`func:NAME` calls the function, or the first one defined where there is none of that name;
    `var:NAME` reads the variable; `stdout-last` takes the last line printed."""

    def __post_init__(self) -> None:
        if not _KIND.fullmatch(self.kind):
            raise ValueError(f"kind is {self.kind!r}: set func:NAME, var:NAME or stdout-last")


def judge(execution: Execution, gold: float) -> Verdict:
    """The verdict on a program's result, compared with the gold answer."""
    if execution.status != "ok" or execution.value is None:
        return "failed"
    return "right" if same_number(execution.value, gold) else "wrong"


class TierOneRefused(IsolationError):
    """Monty cannot be isolated on this system, but CPython can."""


class Executor:
    """Runs programs on `num_workers` lanes, each with its own jailed processes.

    A context manager; entering starts the first lane and raises IsolationError where no
    isolation is available. `run` may be called any number of times, from one thread. A jailed
    process that dies is restarted and its program run once more. Lanes take programs one by one,
    so a program that loops occupies one lane only. There is no deadline for a whole batch.
    """

    def __init__(self, *, limits: Limits, num_workers: int = 1, use_monty: bool = True) -> None:
        """Prepare the lanes; with `use_monty=False`, CPython runs all: slower, same verdicts."""
        if num_workers < 1:
            raise ValueError(f"num_workers is {num_workers}: set at least 1")
        self._lanes = [_Lane(limits, use_monty) for _ in range(num_workers)]
        self._stack = ExitStack()

    @classmethod
    def from_config(cls, execution: ExecutionConfig) -> Self:
        """An executor with the limits and the number of workers that a config sets."""
        return cls(limits=Limits.from_config(execution), num_workers=execution.num_workers)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for lane in self._lanes:
                stack.callback(lane.close)
            try:
                self._lanes[0].start()
            except TierOneRefused as error:
                logger.warning(f"all programs run in CPython, slower: {error}")
                for lane in self._lanes:
                    lane.leave_all_to_cpython()
                self._lanes[0].start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def layers(self) -> list[str]:
        """The isolation of tier 2 on this system, of `Jail.layers`."""
        return self._lanes[0].layers

    def run(
        self, programs: Sequence[Program], *, check_cancelled: Callable[[], None] | None = None
    ) -> list[Execution]:
        """Run programs; returns their results in the same order, whatever the programs do.

        Args:
            programs: What to run.
            check_cancelled: Called before every program, in its lane's thread; what it raises
                ends the run.

        Raises:
            IsolationError: a jailed process had to be restarted and could not be.
        """

        def run_one(lane: _Lane, program: Program) -> Execution:
            if check_cancelled is not None:
                check_cancelled()
            return lane.run(program)

        if len(self._lanes) == 1 or len(programs) == 1:
            return [run_one(self._lanes[0], program) for program in programs]
        results: list[Execution | None] = [None] * len(programs)
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for index in range(len(programs)):
            waiting.put(index)
        stop = threading.Event()

        def work(lane: _Lane) -> None:
            while not stop.is_set():
                try:
                    index = waiting.get_nowait()
                except queue.Empty:
                    return
                results[index] = run_one(lane, programs[index])

        with ThreadPoolExecutor(len(self._lanes), "executor") as threads:
            try:
                for lane_done in [threads.submit(work, lane) for lane in self._lanes]:
                    lane_done.result()
            finally:
                stop.set()  # Ctrl-C, or a lane failed: the others finish their current program
        return [result for result in results if result is not None]


class _Lane:
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
        return self._light.layers

    def leave_all_to_cpython(self) -> None:
        self._use_monty = False
        self._reader = Jail("reader", self._limits)

    def start(self) -> None:
        self._light.start()
        try:
            self._reader.start()
        except IsolationError as error:
            raise TierOneRefused(str(error)) if self._use_monty else error from None

    def close(self) -> None:
        for jail in (self._reader, self._light, *self._heavier.values()):
            jail.close()

    def run(self, program: Program) -> Execution:
        start = time.perf_counter()
        execution = self._run(program)
        return replace(execution, seconds=time.perf_counter() - start)

    def _run(self, program: Program) -> Execution:
        if len(program.code) > MAX_SOURCE_CHARACTERS:
            return Execution(
                status="error",
                error=f"{len(program.code)} characters: longer than {MAX_SOURCE_CHARACTERS}",
            )
        request = {"code": program.code, "kind": program.kind}
        read = self._read(request)
        if isinstance(read, Execution):
            return read
        answer = _answer(read, self._limits)
        if answer is not None:
            return _from_monty(program.kind, *answer)
        weight = channel.text(read, "weight", _MAX_WORD) or ""
        reply = _ask_twice(self._heavier.get(weight, self._light), request)
        return _BREAKS_SANDBOX if reply is None else _from_cpython(reply)

    def _read(self, request: dict[str, Any]) -> dict[str, Any] | Execution:
        """The reader's reply on a program, or the result of one that is not run."""
        if self._reader.num_requests >= READER_PROGRAMS:
            self._reader.close()  # the next request starts another
        try:
            read = self._ask_reader(request)
            if read is not None and channel.flag(read, "memory") and self._reader.num_requests > 1:
                self._reader.close()
                read = self._ask_reader(request)
        except OutOfTime:
            return Execution(status="timeout", error="ran out of CPU time while it was compiled")
        if read is None:
            return _BREAKS_SANDBOX
        if "error" in read:
            error = channel.text(read, "error", zygote.MAX_REPORT_BYTES) or ""
            return Execution(status="error", error=_one_line(error))
        return read

    def _ask_reader(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Ask with Monty first; where that ends the process, ask again without it."""
        try:
            return self._reader.ask({**request, "monty": True}, seconds=_MONTY_SECONDS)
        except OutOfTime:
            raise
        except JailDied:
            return _ask_twice(self._reader, {**request, "monty": False})


def _ask_twice(jail: Jail, request: dict[str, Any]) -> dict[str, Any] | None:
    """Ask; if the jailed process dies, ask a new one. None: both died.

    Raises:
        OutOfTime: the reply took more CPU time than its limit.
    """
    for _ in range(2):
        try:
            return jail.ask(request)
        except OutOfTime:
            raise
        except JailDied:
            continue
    return None


def _answer(read: dict[str, Any], limits: Limits) -> tuple[float | str, str] | None:
    """Monty's number, or the name of the type returned instead, and the output; None: neither."""
    printed = channel.text(read, "printed", limits.max_output_bytes)
    number = channel.number(read, "number")
    value = channel.text(read, "type", _MAX_ERROR) if number is None else number
    return None if printed is None or value is None else (value, printed)


def _from_monty(kind: str, value: float | str, printed: str) -> Execution:
    if kind == "stdout-last":
        return _numeric(last_number(printed), "a line", "monty")
    if isinstance(value, str):
        return _numeric(None, value, "monty")
    return _numeric(value, "a number", "monty")


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
