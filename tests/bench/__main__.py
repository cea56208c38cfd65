"""One command that measures training, start-up, loading, ranks and checkpoints beside peers.

    make bench                                             # all parts, in about 20 minutes
    make bench BENCH="--only training,startup training.turns=9"
    python -m tests.bench --toy                            # tiny sizes: shows that all runs
    python -m tests.bench --show build/bench/bench.json    # a result's tables as Markdown

A peer does the same work in the same run, in turns with ours. Cells are medians, with the smallest
and the largest in brackets. A peer that is not installed, or fails, is a row that says so. Sizes
are in tests/bench/sizes.py. FOLDER/bench.json and FOLDER/bench.md are written after every part.
Exit code 1: a part failed, or a check in it did.
"""

import argparse
import importlib
import json
import os
import signal
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from tests.bench import parts
from tests.bench.gpu.record import environment
from tests.bench.gpu.setting import Setting
from tests.bench.sizes import sizes_of
from training.files import write_json

MODULES = {
    "training": "tests.bench.training",
    "profiles": "tests.bench.profiles",
    "startup": "tests.bench.startup",
    "loader": "tests.bench.loading.part",
    "ranks": "tests.bench.scaling",
    "saving": "tests.bench.saving",
}
"""The parts in their order. Each module has `run(sizes, folder, record)`."""
_LIMIT_SECONDS = 1800


def main() -> int:
    """Run the parts, print their tables, write JSON and Markdown."""
    parser = _parser()
    arguments = parser.parse_args()
    # As an exception, so that ending this process ends the part that runs as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if arguments.show:
        print(_page(json.loads(arguments.show.read_text(encoding="utf-8"))))
        return 0
    names = arguments.only or list(MODULES)
    try:
        sizes = {
            name: sizes_of(name, toy=arguments.toy, overrides=arguments.overrides) for name in names
        }
    except ValueError as error:
        parser.error(str(error))
    if arguments.part:
        _run_part(arguments)
        return 0
    arguments.folder.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(["python -m tests.bench", *sys.argv[1:]]),
        "toy": arguments.toy,
        "machine": _machine(),
        **environment(Setting(device=torch.device("cpu"), toy=arguments.toy)),
        "parts": {},
    }
    for name in names:
        print(f"\n{name} ...", flush=True)
        command = ["-m", "tests.bench", "--part", name, "--folder", str(arguments.folder)]
        command += ["--toy"] * arguments.toy + arguments.overrides
        part = parts.in_a_process(command, limit_seconds=_LIMIT_SECONDS)
        result["parts"][name] = {"sizes": asdict(sizes[name]), **part}
        parts.show(name, part)
        write_json(arguments.folder / "bench.json", result)
        (arguments.folder / "bench.md").write_text(_page(result) + "\n", encoding="utf-8")
    print(f"\n{_page(result)}\n\n{arguments.folder / 'bench.json'}")
    return int(any(part["status"] != "ok" for part in result["parts"].values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("overrides", nargs="*", metavar="part.name=value", help="of the sizes")
    parser.add_argument("--toy", action="store_true", help="tiny sizes")
    parser.add_argument(
        "--only", type=parts.names_of(MODULES), metavar="NAME,NAME", help=", ".join(MODULES)
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("build/bench"), help="of results and prepared data"
    )
    parser.add_argument("--show", type=Path, metavar="FILE.json", help="print a result again")
    parser.add_argument("--part", choices=list(MODULES), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser


def _run_part(arguments: argparse.Namespace) -> None:
    sizes = sizes_of(arguments.part, toy=arguments.toy, overrides=arguments.overrides)
    module = importlib.import_module(MODULES[arguments.part])
    folder = arguments.folder.resolve()
    parts.run_here(lambda record: module.run(sizes, folder, record), arguments.out)


def _machine() -> dict[str, Any]:
    """What the numbers depend on, without the machine's name."""
    kind = "unknown CPU"
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        lines = facts.read_text(encoding="utf-8").splitlines()
        kind = next(
            (x.partition(":")[2].strip() for x in lines if x.startswith("model name")), kind
        )
    return {"cpu": kind, "cores": os.cpu_count(), "threads": torch.get_num_threads()}


def _page(result: dict[str, Any]) -> str:
    machine = result["machine"]
    size = "TOY SIZES, " if result["toy"] else ""
    cores, threads = machine["cores"], machine["threads"]
    return parts.markdown(
        result, f"{size}{machine['cpu']}, {cores} cores, {threads} thread{'s' * (threads > 1)}"
    )


if __name__ == "__main__":
    sys.exit(main())
