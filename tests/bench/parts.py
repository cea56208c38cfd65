"""Parts of a benchmark, each in a process of its own with a time limit, and their tables.

Running out of memory, a crash or a hang ends one part alone; its rows until then are kept.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from tests.bench.gpu import table
from tests.bench.gpu.record import Record, short
from tests.bench.gpu.setting import ROOT

Result = dict[str, Any]


def names_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """A type for argparse: names of parts, separated by commas."""

    def names(text: str) -> list[str]:
        found = [name.strip() for name in text.split(",")]
        for name in found:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return found

    return names


def run_here(measure: Callable[[Record], None], out: Path) -> None:
    """Run one part in this process: its rows go to `out` as they come."""
    record = Record(out)
    try:
        measure(record)
    except Exception as error:
        record.note(f"ended by {short(error)}")
        raise
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def in_a_process(command: Sequence[str], *, limit_seconds: float) -> Result:
    """Run `python COMMAND --out FILE`, which writes a `Record`; what it found, and how it ended."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found, log = Path(folder) / "part.json", Path(folder) / "log"
        with log.open("wb") as output:
            try:
                code: int | None = subprocess.run(
                    [sys.executable, *command, "--out", str(found)],
                    cwd=ROOT,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=limit_seconds,
                    # Nothing is downloaded: without a network, transformers would wait for one.
                    env={**os.environ, "HF_HUB_OFFLINE": "1"},
                ).returncode
            except subprocess.TimeoutExpired:
                code = None
        part: Result = {"rows": [], "notes": []}
        if found.is_file():
            part = json.loads(found.read_text(encoding="utf-8"))
        if code != 0:
            tail = log.read_text(encoding="utf-8", errors="replace")[-3000:]
            how = f"exit code {code}" if code is not None else "stopped at its time limit"
            part["error"] = f"{how}, {limit_seconds:.0f} s allowed\n{tail}"
    return {"status": _status(part), "seconds": time.perf_counter() - begin, **part}


def _status(part: Result) -> str:
    """`error` where anything went wrong, else `check failed` where a check did not pass."""
    rows: list[Result] = part["rows"]
    if "error" in part or not rows or any("error" in row for row in rows):
        return "error"
    return "check failed" if any(row.get("passed") is False for row in rows) else "ok"


def show(name: str, part: Result) -> None:
    """Print a part for a terminal."""
    print(f"{name}: {part['status']}, {part['seconds']:.0f} s")
    if part["rows"]:
        print(table.plain(part["rows"]))
    for note in part["notes"]:
        print(f"  {note}")
    if "error" in part:
        print(part["error"])
    sys.stdout.flush()


def markdown(result: Result, title: str) -> str:
    """A result as a section of the results page."""
    versions = ", ".join(f"{name} {value}" for name, value in result["versions"].items() if value)
    lines = [
        f"### {result['date'][:10]}, {title}",
        f"`{result['command']}` at {result['commit']}; {versions}",
    ]
    for name, part in result["parts"].items():
        lines += [f"**{name}** ({part['status']}, {part['seconds']:.0f} s)"]
        lines += [table.markdown(part["rows"])] if part["rows"] else []
        lines += part["notes"]
    return "\n\n".join(lines)
