"""Executes a file of programs: JSON lines in, the same lines with their results out.

Each line is an object with `code`, optionally `kind` (`Program.kind`) and `gold` (a number,
or text such as "1,234"); any other field is passed through. Every output line is the input
object plus `status`, `value`, `error`, `verdict` (null without gold), `tier` and `seconds`.
Names ending in `.gz` are compressed. The output takes its place only when it is complete, and
never that of a file that is there. But for `seconds`, which are measured, and on a crowded machine
`tier`, it is the same whoever runs the programs.
"""

import gzip
import json
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from parallel.workers.pool import WorkerPool, in_chunks
from training.config import ConfigError
from training.data import tables
from training.execution.executor import Executor, Limits, Program, judge
from training.execution.numbers import read_gold
from training.files import refuse_existing, replacing
from training.monitoring.progress import Progress
from training.records import Execution, Verdict

_CHUNK_PROGRAMS = 32
"""Run by one worker at a time: little to do again when it dies, or to wait for when they loop."""


@dataclass(frozen=True)
class Line:
    """One input line: the object as it stands, and what it asks for."""

    fields: dict[str, Any]
    program: Program
    gold: float | None


@dataclass
class Summary:
    """Counts of a file's results."""

    num_programs: int = 0
    seconds: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter[str])
    verdicts: Counter[str] = field(default_factory=Counter[str])
    tiers: Counter[str] = field(default_factory=Counter[str])

    def __str__(self) -> str:
        def listed(counts: Counter[str]) -> str:
            return ", ".join(f"{name} {count:,}" for name, count in counts.most_common()) or "none"

        rate = self.num_programs / max(self.seconds, 1e-9)
        return (
            f"{self.num_programs:,} programs in {self.seconds:.1f} s ({rate:,.0f}/s)\n"
            f"  status:  {listed(self.statuses)}\n"
            f"  verdict: {listed(self.verdicts)}\n"
            f"  tier:    {listed(self.tiers)}"
        )


class _Runner:
    """Runs chunks of programs; its sandbox is opened in the process that uses it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._executor: Executor | None = None

    def open(self) -> None:
        """Start the sandbox."""
        self._executor = Executor(limits=self._limits).__enter__()

    def close(self) -> None:
        """Stop it."""
        if self._executor is not None:
            self._executor.__exit__(None, None, None)

    def __call__(self, chunk: list[Line]) -> list[tuple[Line, Execution]]:
        """The lines with the results of their programs."""
        assert self._executor is not None
        executions = self._executor.run([line.program for line in chunk])
        return list(zip(chunk, executions, strict=True))


def execute_file(source: Path, target: Path, *, limits: Limits, pool: WorkerPool) -> Summary:
    """Execute every program of `source` and write `target`.

    Args:
        source: Programs, one a line.
        target: The file to write; one that holds anything is never written over.
        limits: Of one program.
        pool: Worker processes that run them.

    Raises:
        ConfigError: a file cannot be used, or a line is not what it should be; all lines
            are checked before the first program runs.
        FileExistsError: there is something at `target` already.
        IsolationError: no isolation can be had here.
    """
    total = num_programs(source, target)
    summary, start = Summary(), time.monotonic()
    with (
        replacing(target) as temporary,
        _open(temporary, "wt", target.suffix) as stream,
        Progress("executing", total=total, unit="programs") as progress,
    ):
        for done in pool.imap(_Runner(limits), in_chunks(read_lines(source), _CHUNK_PROGRAMS)):
            for line, execution in done:
                _write(stream, line, execution, summary)
            progress.advance(len(done))
        refuse_existing(target)  # it may have been made meanwhile
    summary.seconds = time.monotonic() - start
    return summary


def num_programs(source: Path, target: Path) -> int:
    """How many programs a file holds, once all its lines are checked. Raises as `execute_file`."""
    if not source.is_file():
        raise ConfigError(f"{source}: no such file")
    refuse_existing(target)
    return sum(1 for _ in read_lines(source))


def read_lines(source: Path) -> Iterator[Line]:
    """The lines of a file, empty ones left out.

    Raises:
        ConfigError: a line is no JSON object with a text `code`; names file and line.
    """
    number = 0
    try:
        for number, line in tables.lines(source):  # noqa: B007 (an error names it)
            if line is None:
                raise ValueError("the line is too long")
            if line.strip():
                yield _parsed(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or not what we ask for
        raise ConfigError(f"{source}, line {max(number, 1)}: {error}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{source}, after line {number}: {error}") from error


def _parsed(text: str) -> Line:
    try:
        content: Any = json.loads(text)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"a JSON object is needed, this is a {type(content).__name__}")
    fields = cast(dict[str, Any], content)
    if not isinstance(fields.get("code"), str):
        raise ValueError("no `code`, or it is not text")
    kind, gold = fields.get("kind"), fields.get("gold")
    code = fields["code"]
    return Line(
        fields,
        Program(code=code) if kind is None else Program(code=code, kind=str(kind)),
        None if gold is None else read_gold(gold),
    )


def _write(stream: IO[str], line: Line, execution: Execution, summary: Summary) -> None:
    verdict: Verdict | None = None if line.gold is None else judge(execution, line.gold)
    result = {
        "status": execution.status,
        "value": execution.value,
        "error": execution.error,
        "verdict": verdict,
        "tier": execution.tier,
        "seconds": round(execution.seconds, 6),
    }
    stream.write(json.dumps(line.fields | result) + "\n")
    summary.num_programs += 1
    summary.statuses[execution.status] += 1
    summary.tiers[execution.tier] += 1
    if verdict is not None:
        summary.verdicts[verdict] += 1


def _open(path: Path, mode: str, suffix: str) -> IO[str]:
    if suffix == ".gz":
        return cast(IO[str], gzip.open(path, mode, encoding="utf-8"))
    return cast(IO[str], path.open(mode, encoding="utf-8"))
