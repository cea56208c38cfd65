"""Runs model-written programs in a sandbox and compares their results with gold answers.

    with Executor(limits=Limits(), num_workers=4) as executor:
        executions = executor.run([Program(code=source)])
        cut = executor.cut_and_run([RawProgram(code=function)])
    verdict = judge(executions[0], gold=72.0)

No program is run, or even parsed, in this process. Tier 1 (`pydantic-monty`) runs plain
programs, which are most of them. Tier 2 (a fresh, jailed CPython per program) runs the others
and every program that fails in tier 1. The sandbox is described in sandbox/__init__.py. Where
no isolation is available, nothing is run. Gold answers stay in this process: `judge` compares
with them, and is a pure function.

This module does not deal with candidates or files. One lane of it is in lane.py.
"""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

from typing_extensions import Self

from training.config import ExecutionConfig
from training.execution.lane import (
    MAX_TOGETHER,
    CutProgram,
    Lane,
    Program,
    RawProgram,
    TierOneRefused,
)
from training.execution.numbers import parse_number, same_number
from training.execution.sandbox.jail import IsolationError, Limits
from training.records import Execution, Verdict

logger = logging.getLogger(__name__)

__all__ = [
    "CutProgram",
    "Cutter",
    "Execution",
    "Executor",
    "IsolationError",
    "Limits",
    "Program",
    "RawProgram",
    "judge",
    "parse_number",
    "same_number",
]

_Wanted = TypeVar("_Wanted")
_Result = TypeVar("_Result")

_GROUPS_PER_LANE = 8
"""A lane takes few programs at a time where there are few, so that all lanes have some."""


def judge(execution: Execution, gold: float) -> Verdict:
    """The verdict on a program's result, compared with the gold answer."""
    if execution.status != "ok" or execution.value is None:
        return "failed"
    return "right" if same_number(execution.value, gold) else "wrong"


class Cutter:
    """Cuts functions into question and body without running them.

    A context manager. Its one jailed process starts when it is first needed, so where nothing has
    to be cut, no isolation is needed either.
    """

    def __init__(self) -> None:
        self._lane = Lane(Limits(), use_monty=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lane.close()

    def cut(self, programs: Sequence[RawProgram]) -> list[CutProgram]:
        """For each program its parts, or why there are none, in the same order.

        Raises:
            IsolationError: the jailed process could not be started.
        """
        return self._lane.cut(programs, run=False)


class Executor:
    """Runs programs on `num_workers` lanes, each with its own jailed processes.

    A context manager; entering starts the first lane and raises IsolationError where no
    isolation is available. `run` and `cut_and_run` may be called any number of times, from one
    thread. A jailed process that dies is restarted and its program run once more. Lanes take a few
    programs at a time, so a program that loops occupies one lane only. There is no deadline for a
    whole batch.
    """

    def __init__(self, *, limits: Limits, num_workers: int = 1, use_monty: bool = True) -> None:
        """Prepare the lanes; with `use_monty=False`, CPython runs all: slower, same verdicts."""
        if num_workers < 1:
            raise ValueError(f"num_workers is {num_workers}: set at least 1")
        self._lanes = [Lane(limits, use_monty) for _ in range(num_workers)]
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

        def run_some(lane: Lane, some: Sequence[Program]) -> list[Execution]:
            if check_cancelled is not None:
                for _ in some:
                    check_cancelled()
            return lane.run(some)

        return self._on_lanes(programs, run_some)

    def cut_and_run(self, programs: Sequence[RawProgram]) -> list[CutProgram]:
        """Cut functions into question and body and run them, in one trip to the sandbox.

        Args:
            programs: Whole functions, as TinyGSM holds them. What runs is the prompt and the
                body that they are cut into.

        Returns:
            For each program its parts and its result, or why it has no parts, in the same order.

        Raises:
            IsolationError: a jailed process had to be restarted and could not be.
        """
        return self._on_lanes(programs, lambda lane, some: lane.cut(some, run=True))

    def _on_lanes(
        self,
        wanted: Sequence[_Wanted],
        work: Callable[[Lane, Sequence[_Wanted]], list[_Result]],
    ) -> list[_Result]:
        """What `work` gives for all that is wanted, in order, a few at a time on each lane."""
        num_together = MAX_TOGETHER
        if len(self._lanes) > 1:
            num_groups = _GROUPS_PER_LANE * len(self._lanes)
            num_together = max(1, min(MAX_TOGETHER, len(wanted) // num_groups))
        groups = [wanted[i : i + num_together] for i in range(0, len(wanted), num_together)]
        if len(self._lanes) == 1 or len(groups) == 1:
            return [result for group in groups for result in work(self._lanes[0], group)]
        results: list[list[_Result]] = [[] for _ in groups]
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for index in range(len(groups)):
            waiting.put(index)
        stop = threading.Event()

        def work_on(lane: Lane) -> None:
            while not stop.is_set():
                try:
                    index = waiting.get_nowait()
                except queue.Empty:
                    return
                results[index] = work(lane, groups[index])

        with ThreadPoolExecutor(len(self._lanes), "executor") as threads:
            try:
                for lane_done in [threads.submit(work_on, lane) for lane in self._lanes]:
                    lane_done.result()
            finally:
                stop.set()  # Ctrl-C, or a lane failed: the others finish their current group
        return [result for group in results for result in group]
