"""The loader beside megatron-core, Hugging Face `datasets` and MosaicML Streaming.

    make bench BENCH="--only loader loader.sequences=3000000 loader.rounds=6"

Every loader reads the same sequences, each measurement in a process of its own, the loaders in
turn in each round. The files are made once and kept.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench.gpu.record import Record
from tests.bench.loading.loaders import LOADERS
from tests.bench.loading.make import WRITERS
from tests.bench.sizes import Loader

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


def run(sizes: Loader, folder: Path, record: Record) -> None:
    """Make the files that are missing, measure, give a row for each loader."""
    root = folder / "loader" / str(sizes.sequences)
    found: dict[str, list[dict[str, Any]]] = {}
    missing = {name: _made(root, name, sizes.sequences) for name in LOADERS}
    for number in range(sizes.rounds):
        for name in LOADERS:
            if missing[name]:
                continue
            result = _measured(root, name, sizes.batches)
            if isinstance(result, str):
                missing[name] = result
            elif number or sizes.rounds == 1:  # the first round fills caches
                found.setdefault(name, []).append(result)
    for name in LOADERS:
        if missing[name]:
            record.row(loader=name, **{"left out": missing[name]})
        else:
            columns = {
                title: [result[key] for result in found[name]] for key, title in _COLUMNS.items()
            }
            record.row(loader=name, **columns)
    record.note(f"{sizes.sequences:,} sequences of 1,024 tokens, batches of 16")


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
