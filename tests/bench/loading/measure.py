"""One loader in a process of its own: prints its numbers as JSON.

python -m tests.bench.loading.measure ours FOLDER [--batches 600]
"""

import argparse
import json
import os
import resource
import statistics
import time
from pathlib import Path

from tests.bench.loading.loaders import BATCH, LOADERS
from training.files import sha256_file

_WAITS, _STEP_SECONDS = 40, 0.1


def main(argv: list[str] | None = None) -> None:
    """Measure one loader."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=LOADERS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batches", type=int, default=600)
    arguments = parser.parse_args(argv)
    stream = LOADERS[arguments.name][1](arguments.folder)
    begin = _clocks()
    next(stream)
    imported = _clocks()
    next(stream)
    first, resident = _clocks(), _resident_mb()
    for path in arguments.folder.rglob("*"):  # the last measurement dropped them from memory
        if path.is_file():
            sha256_file(path)
    begin_steady, tokens = _clocks(), 0
    for _ in range(arguments.batches):
        tokens += next(stream).numel()
    steady = _clocks()
    _drop_cache(arguments.folder)
    waits: list[float] = []
    for _ in range(_WAITS):
        time.sleep(_STEP_SECONDS)  # as long as a step computes
        start = time.perf_counter()
        next(stream)
        waits.append(time.perf_counter() - start)
    print(
        json.dumps(
            {
                "import_cpu_s": imported[1] - begin[1],
                "first_batch_s": first[0] - imported[0],
                "first_batch_cpu_s": first[1] - imported[1],
                "resident_mb": resident,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "mtokens_per_s": tokens / (steady[0] - begin_steady[0]) / 1e6,
                "mtokens_per_cpu_s": tokens / (steady[1] - begin_steady[1]) / 1e6,
                "cold_wait_median_ms": statistics.median(waits) * 1e3,
                "cold_wait_max_ms": max(waits) * 1e3,
                "batch_sequences": BATCH,
            }
        ),
        flush=True,
    )
    os._exit(0)  # some leave threads and processes that end slowly


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _resident_mb() -> float:
    """Resident memory of this process, pages of mapped files included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def _drop_cache(folder: Path) -> None:
    """Drop the files' pages from the page cache, those that are mapped excepted."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


if __name__ == "__main__":
    main()
