"""What does it cost to cut, run and tokenise a program? `python -m tests.bench.execution`

Programs that models wrote in TinyGSM's form, from the real data (`TINYGSM_DATA`), or, without it,
programs of the built-in problems. Printed is the CPU time of a program in microseconds, summed over
this process and all jailed ones, as the median and the spread of several repeats.
"""

import argparse
import gzip
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.training.data.real import data_folder
from training.data.problems import Difficulty, write_problem
from training.data.tokenizer import Tokenizer
from training.execution import programs
from training.execution.executor import Cutter, Executor, Limits, Program, RawProgram


def main() -> None:
    """Measure and print Markdown."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--programs", type=int, default=2000)
    arguments.add_argument("--repeats", type=int, default=5)
    asked = arguments.parse_args()
    codes = _codes(asked.programs)
    raw = [RawProgram(code=code) for code in codes]
    whole = [Program(code=code) for code in codes]
    print(f"{len(codes):,} programs\n\n| work | µs of CPU a program | spread |\n|---|---|---|")
    with Executor(limits=Limits()) as executor, Cutter() as cutter:
        _print("run", lambda: executor.run(whole), len(codes), asked.repeats)
        _print("cut and run", lambda: executor.cut_and_run(raw), len(codes), asked.repeats)
        _print("cut", lambda: cutter.cut(raw), len(codes), asked.repeats)
    folder = data_folder() / "codegen_tokenizer"
    if folder.is_dir():
        tokenizer = Tokenizer.load(folder)
        _print("tokenise", lambda: tokenizer.encode_all(codes), len(codes), asked.repeats)


def _codes(count: int) -> list[str]:
    """Programs that gave a number when they were recorded, or built-in ones."""
    path = data_folder() / "programs/programs.jsonl.gz"
    if not path.is_file():
        problems = (write_problem(0, index, Difficulty()) for index in range(count))
        return [programs.source(problem.question, problem.program) for problem in problems]
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    return [
        row["code"]
        for row in rows
        if row["exec_status"] == "ok" and row["source"].startswith("tinygsm_filter")
    ][:count]


def _print(what: str, work: Callable[[], Sequence[object]], count: int, repeats: int) -> None:
    work()  # starts processes, and loads what the first call loads
    spent: list[float] = []
    while len(spent) < repeats:
        before = _cpu_seconds()
        work()
        after = _cpu_seconds()
        if after.keys() == before.keys():  # no jailed process was renewed meanwhile
            spent.append((sum(after.values()) - sum(before.values())) / count * 1e6)
    median, low, high = statistics.median(spent), min(spent), max(spent)
    print(f"| {what} | {median:.0f} | {low:.0f}–{high:.0f} |")


def _cpu_seconds() -> dict[int, float]:
    """CPU time of this process and of all that it has started and that still run."""
    return cpu_seconds(os.getpid()) | {os.getpid(): time.process_time()}


def cpu_seconds(pid: int) -> dict[int, float]:
    """CPU time of a process and of all that it has started and that still run."""
    return {each: _cpu_seconds_of(each) for each in (pid, *_descendants(pid))}


def _cpu_seconds_of(pid: int) -> float:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def _descendants(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return children + [found for child in children for found in _descendants(child)]


if __name__ == "__main__":
    main()
