"""Compares the loader with megatron-core, Hugging Face `datasets` and MosaicML Streaming.

make bench-data
python -m tests.bench.loading build/bench-data --sequences 3000000 --rounds 5 --json OUT

Every loader reads the same sequences, each measurement in a process of its own, the loaders in
turn in each round. Printed are medians, with the smallest and the largest in brackets. A loader
that is not installed is left out, with the reason.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.loading.loaders import LOADERS
from tests.bench.loading.make import WRITERS

_COLUMNS = {
    "first_batch_s": "start to first batch, s",
    "first_batch_cpu_s": "CPU s",
    "import_cpu_s": "imports, CPU s",
    "resident_mb": "resident then, MB",
    "mtokens_per_s": "M tokens/s",
    "mtokens_per_cpu_s": "M tokens/CPU s",
    "cold_wait_median_ms": "wait, cold disk, ms",
    "cold_wait_max_ms": "longest, ms",
}


def main(argv: list[str] | None = None) -> None:
    """Make the files that are missing, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, help="where the files are made and kept")
    parser.add_argument("--sequences", type=int, default=131_072)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=600)
    parser.add_argument("--loaders", nargs="+", choices=LOADERS, default=list(LOADERS))
    parser.add_argument("--json", type=Path, help="also write all numbers to this file")
    arguments = parser.parse_args(argv)
    root = arguments.folder / str(arguments.sequences)
    found: dict[str, list[dict[str, Any]]] = {}
    missing = {name: _made(root, name, arguments.sequences) for name in arguments.loaders}
    for number in range(arguments.rounds):
        for name in arguments.loaders:
            if missing[name]:
                continue
            result = _measured(root, name, arguments.batches)
            if isinstance(result, str):
                missing[name] = result
            elif number or arguments.rounds == 1:  # the first round fills caches
                found.setdefault(name, []).append(result)
    _print(found, arguments.sequences)
    for name, reason in missing.items():
        if reason:
            print(f"{name} is left out: {reason}")
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"sequences": arguments.sequences, "loaders": found}, indent=1) + "\n"
        )


def _made(root: Path, name: str, count: int) -> str:
    """Make the files of a loader; why that is not possible, or nothing."""
    form = LOADERS[name][0]
    if (root / f"{form}.done").is_file():
        return ""
    code = (
        "import sys; from pathlib import Path; from tests.bench.loading.make import WRITERS; "
        "WRITERS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))"
    )
    root.mkdir(parents=True, exist_ok=True)
    assert form in WRITERS
    done = subprocess.run(
        [sys.executable, "-c", code, form, str(root / form), str(count)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    (root / f"{form}.done").touch()
    return ""


def _measured(root: Path, name: str, batches: int) -> dict[str, Any] | str:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.bench.loading.measure", name),
            *(str(root / LOADERS[name][0]), "--batches", str(batches)),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return (done.stderr.strip().splitlines() or ["no output"])[-1]
    return json.loads(lines[-1])


def _print(found: dict[str, list[dict[str, Any]]], sequences: int) -> None:
    table = Table(title=f"{sequences:,} sequences of 1,024 tokens, batches of 16")
    table.add_column("loader")
    for title in _COLUMNS.values():
        table.add_column(title, justify="right")
    for name, results in found.items():
        cells: list[str] = []
        for key in _COLUMNS:
            values = [result[key] for result in results]
            cells.append(f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]")
        table.add_row(name, *cells)
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
