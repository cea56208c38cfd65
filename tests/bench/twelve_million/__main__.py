"""Run the recipe's data at full size, or a small set in the same way.

python -m tests.bench.twelve_million WORK --tokenizer FOLDER --gsm8k FOLDER
"""

import argparse
import os
import platform
import signal
import sys
from datetime import date
from pathlib import Path
from typing import Any

from tests.bench.twelve_million.run import Run, Settings, StepFailed, run_again, totals
from tests.bench.twelve_million.table import as_markdown
from training import files

_DATA = Path(os.environ.get("TINYGSM_DATA", Path(__file__).parents[4] / "shared" / "data"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, help="folder of the run; 30 GB at full size")
    parser.add_argument("--rows", type=int, default=12_300_000)
    parser.add_argument("--shards", type=int, default=17)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sequence-length", type=int, default=1280)
    parser.add_argument("--ngram", type=int, default=13, help="data.decontaminate_ngram")
    parser.add_argument("--train-steps", type=int, default=5)
    parser.add_argument("--resumes", type=int, default=50, help="random points of the order check")
    parser.add_argument("--tokenizer", default=str(_DATA / "codegen_tokenizer"))
    parser.add_argument("--gsm8k", default=str(_DATA / "gsm8k"))
    parser.add_argument("--no-execution", action="store_true", help="run_programs = false")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--kills",
        type=int,
        default=0,
        help="write the data once more in WORK/again, each step killed so often; compare the bytes",
    )
    parser.add_argument("--results", type=Path, help="folder for the JSON and the table")
    return parser.parse_args()


def main() -> int:
    options = _options()
    settings = Settings(
        rows=options.rows,
        shards=options.shards,
        seed=options.seed,
        sequence_length=options.sequence_length,
        ngram=options.ngram,
        train_steps=options.train_steps,
        resumes=options.resumes,
        tokenizer=options.tokenizer,
        gsm8k=options.gsm8k,
        run_programs=not options.no_execution,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run = Run(options.work, settings, options.workers)
    try:
        for step in run.steps():
            print(f"{step.name} …", flush=True)
            run.finish(step)
        killed: dict[str, Any] = {}
        if options.kills:
            again = Run(options.work / "again", settings, options.workers)
            killed = run_again(run, again, options.kills, options.seed)
    except KeyboardInterrupt:
        print("stopped; the same command continues")
        return 130
    except StepFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    _report(run, killed, options.workers, options.results or options.work)
    return 0


def _report(run: Run, killed: dict[str, Any], num_workers: int, folder: Path) -> None:
    settings = dict(vars(run.settings))
    for name in ("tokenizer", "gsm8k"):
        settings[name] = Path(settings[name]).name  # a path says nothing elsewhere
    found = {
        "date": date.today().isoformat(),
        "machine": _machine(),
        "workers": num_workers,
        "settings": settings,
        "steps": {
            name: {**totals(step["attempts"]), "facts": step["facts"]}
            for name, step in run.record["steps"].items()
        },
        "killed_and_equal": killed,
    }
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / f"{found['date']}_twelve_million.json", found)
    text = as_markdown(found)
    (folder / f"{found['date']}_twelve_million.md").write_text(text)
    print(text)


def _machine() -> dict[str, Any]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_bytes": memory,
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    sys.exit(main())
