"""One command that measures and checks the project on whatever device is here.

    python -m tests.bench.gpu                        # full sizes, on CUDA, at most 9 minutes
    python -m tests.bench.gpu --first-look           # ceilings and profiles, at most 2 minutes
    python -m tests.bench.gpu --toy                  # tiny shapes, on CUDA or the CPU
    python -m tests.bench.gpu --only train,losses --out found.json
    python -m tests.bench.gpu --show found.json      # its tables as Markdown

Every part runs in a process of its own with a time limit: out of memory, an illegal
memory access or a hang ends that part alone, and its rows until then are kept. The
result is one JSON file, written after every part. Exit code 1: a part failed, or a check
in it did.
"""

import argparse
import importlib
import json
import signal
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from tests.bench import parts
from tests.bench.gpu import expected
from tests.bench.gpu.record import environment
from tests.bench.gpu.setting import Setting
from training.files import write_json

LIMIT_SECONDS = {
    "ceilings": 30,
    "train": 150,
    "train_profile": 50,
    "losses": 35,
    "sample": 70,
    "sample_profile": 25,
    "score": 25,
    "collectives": 20,
    "resume": 35,
    "train_peer": 50,
    "sample_peer": 50,
}
"""The parts in their order, and how long each may take: together 9 minutes.

The first ones say most, should the run be cut off; what is compared with others comes last."""
FIRST_LOOK = ("ceilings", "train_profile")
"""What the machine can do, and where a step's time goes."""
_TOY_PATIENCE = 10
"""A toy run takes seconds, but on a busy CPU nobody knows how many."""


def main() -> int:
    """Run the parts, print their tables, write the JSON."""
    arguments = _parser().parse_args()
    if arguments.show:
        print(_markdown(json.loads(arguments.show.read_text(encoding="utf-8"))))
        return 0
    setting = Setting(
        device=torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu"),
        toy=arguments.toy,
    )
    if not setting.on_gpu and not setting.toy:
        print(
            "no CUDA device here, and full sizes would take hours on a CPU: add --toy",
            file=sys.stderr,
        )
        return 2
    if arguments.part:
        run_part(arguments.part, setting, arguments.out)
        return 0
    # As an exception, so that ending the suite ends the part that runs as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    result: dict[str, Any] = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(["python -m tests.bench.gpu", *sys.argv[1:]]),
        "toy": setting.toy,
        **environment(setting),
        "parts": {},
    }
    for name in arguments.only or (FIRST_LOOK if arguments.first_look else LIMIT_SECONDS):
        print(f"\n{name} ...", flush=True)
        part = _in_a_process(name, setting)
        result["parts"][name] = part
        _put_beside_expected(name, result)
        parts.show(name, part)
        write_json(arguments.out, result)
    print(f"\n{arguments.out}")
    return int(any(part["status"] != "ok" for part in result["parts"].values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--toy", action="store_true", help="tiny shapes, on any device")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--only",
        type=parts.names_of(LIMIT_SECONDS),
        metavar="NAME,NAME",
        help=", ".join(LIMIT_SECONDS),
    )
    which.add_argument("--first-look", action="store_true", help=", ".join(FIRST_LOOK))
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), metavar="FILE.json")
    parser.add_argument("--show", type=Path, metavar="FILE.json", help="print a result again")
    parser.add_argument("--part", choices=list(LIMIT_SECONDS), help=argparse.SUPPRESS)
    return parser


def run_part(name: str, setting: Setting, out: Path) -> None:
    """Run one part in this process: its rows go to `out` as they come."""
    module = importlib.import_module(f"tests.bench.gpu.{name}")
    parts.run_here(lambda record: module.run(setting, record), out)


def _in_a_process(name: str, setting: Setting) -> dict[str, Any]:
    """Run one part; its rows, and whether it ended well."""
    command = ["-m", "tests.bench.gpu", "--part", name, *(["--toy"] if setting.toy else [])]
    limit = LIMIT_SECONDS[name] * (_TOY_PATIENCE if setting.toy else 1)
    return parts.in_a_process(command, limit_seconds=limit)


def _put_beside_expected(name: str, result: dict[str, Any]) -> None:
    """Widen the rows of a part by what was expected of this device."""
    measured = result["parts"].get("ceilings", {"rows": []})["rows"]
    part = result["parts"][name]
    part["rows"] = expected.beside_expected(
        name,
        part["rows"],
        ceilings=expected.ceilings_of(measured),
        device=result["device"]["name"],
    )
    if any("expected" in row for row in part["rows"]):
        part["notes"].append(f"expected: {expected.WHEN}, before any run on a GPU")


def _markdown(result: dict[str, Any]) -> str:
    size = "TOY SIZES, " if result["toy"] else ""
    return parts.markdown(result, f"{size}{result['device']['kind']}: {result['device']['name']}")


if __name__ == "__main__":
    sys.exit(main())
