"""One command that measures and checks the project on whatever device is here.

    python -m tests.bench.gpu                        # full sizes, on CUDA, under 8 minutes
    python -m tests.bench.gpu --toy                  # tiny shapes, on CUDA or the CPU
    python -m tests.bench.gpu --only train,losses --out found.json
    python -m tests.bench.gpu --show found.json      # its tables as Markdown

Every part runs in a process of its own with a time limit: out of memory, an illegal
memory access or a hang ends that part alone, and its rows until then are kept. The
result is one JSON file. Exit code 1: a part failed, or a check in it did.
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
from tests.bench.gpu.record import Record, environment, short
from tests.bench.gpu.setting import Setting
from training.files import write_json

LIMIT_SECONDS = {
    "matmul": 45,
    "losses": 60,
    "train": 150,
    "peer": 120,
    "sample": 90,
    "profile": 60,
}
"""The parts in their order, and how long each may take; without `profile` under 8 minutes."""
_TOY_PATIENCE = 10
"""A toy run takes seconds, but on a busy CPU nobody knows how many."""


def main() -> int:
    """Run the parts, print their tables, write the JSON."""
    arguments = _parser().parse_args()
    # As an exception, so that ending the suite ends the part that runs as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if arguments.show:
        print(_markdown(json.loads(arguments.show.read_text(encoding="utf-8"))))
        return 0
    setting = Setting(
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"), toy=arguments.toy
    )
    if not setting.on_gpu and not setting.toy:
        print(
            "no CUDA device here, and full sizes would take hours on a CPU: add --toy",
            file=sys.stderr,
        )
        return 2
    if arguments.part:
        return _run_part(arguments.part, setting, arguments.out)
    names = arguments.only or [name for name in LIMIT_SECONDS if name != "profile"]
    if arguments.profile and "profile" not in names:
        names.append("profile")
    result: dict[str, Any] = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(["python -m tests.bench.gpu", *sys.argv[1:]]),
        "toy": setting.toy,
        **environment(setting),
        "parts": {},
    }
    for name in names:
        print(f"\n{name} ...", flush=True)
        part = _in_a_process(name, setting)
        result["parts"][name] = part
        parts.show(name, part)
        write_json(arguments.out, result)
    print(f"\n{arguments.out}")
    return int(any(part["status"] != "ok" for part in result["parts"].values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--toy", action="store_true", help="tiny shapes, on any device")
    parser.add_argument("--only", type=_names, metavar="NAME,NAME", help=", ".join(LIMIT_SECONDS))
    parser.add_argument("--profile", action="store_true", help="also the top kernels of a step")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), metavar="FILE.json")
    parser.add_argument("--show", type=Path, metavar="FILE.json", help="print a result again")
    parser.add_argument("--part", choices=list(LIMIT_SECONDS), help=argparse.SUPPRESS)
    return parser


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in LIMIT_SECONDS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(LIMIT_SECONDS)}")
    return names


def _run_part(name: str, setting: Setting, out: Path) -> int:
    """In the part's own process: rows go to `out` as they come, an error is its exit."""
    record = Record(out)
    try:
        importlib.import_module(f"tests.bench.gpu.{name}").run(setting, record)
    except Exception as error:
        record.note(f"ended by {short(error)}")
        raise
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return 0


def _in_a_process(name: str, setting: Setting) -> dict[str, Any]:
    """Run one part; its rows, and whether it ended well."""
    command = ["-m", "tests.bench.gpu", "--part", name, *(["--toy"] if setting.toy else [])]
    limit = LIMIT_SECONDS[name] * (_TOY_PATIENCE if setting.toy else 1)
    return parts.in_a_process(command, limit_seconds=limit)


def _markdown(result: dict[str, Any]) -> str:
    size = "TOY SIZES, " if result["toy"] else ""
    return parts.markdown(result, f"{size}{result['device']['kind']}: {result['device']['name']}")


if __name__ == "__main__":
    sys.exit(main())
