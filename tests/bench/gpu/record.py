"""What one part found, on disk after every row: a part that dies keeps what it had."""

import platform
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from tests.bench.gpu.setting import ROOT, Setting
from tests.bench.gpu.table import Row
from training.files import write_json
from training.monitoring.metrics import device_peak_flops

PACKAGES = (
    *("torch", "transformers", "accelerate", "trl", "deepspeed", "megatron-core", "triton"),
    *("datasets", "mosaicml-streaming", "numpy"),
)


class Record:
    """Rows and remarks of one part."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[Row] = []
        self.notes: list[str] = []
        self._write()

    def row(self, **values: Any) -> None:
        """Add one measurement, or one check with its `passed`."""
        self.rows.append(values)
        self._write()

    def note(self, text: str) -> None:
        """Add what a reader must know to read the rows rightly."""
        if text not in self.notes:
            self.notes.append(text)
            self._write()

    def _write(self) -> None:
        write_json(self._path, {"rows": self.rows, "notes": self.notes})


@contextmanager
def guarded(record: Record, setting: Setting, **known: Any) -> Generator[None, None, None]:
    """Make an error in the block one row of what is `known`: the next variant may still fit."""
    # Here, not at the end: an error's traceback keeps its tensors until the block is left.
    setting.forget_memory()
    try:
        yield
    except Exception as error:
        record.row(**known, error=short(error))


def short(error: BaseException) -> str:
    """An error in one line, its first and its last: a message of several ranks fills hundreds."""
    lines = str(error).strip().splitlines() or [""]
    ends = [line.strip()[:300] for line in (lines[0], lines[-1])]
    return f"{type(error).__name__}: {' ... '.join(ends if len(lines) > 1 else ends[:1])}"


def environment(setting: Setting) -> dict[str, Any]:
    """Versions and device: without them a number cannot be repeated."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    versions["cuda"] = torch.version.cuda
    return {"versions": versions, "device": _device(setting), "commit": _commit()}


def _device(setting: Setting) -> dict[str, Any]:
    if not setting.on_gpu:
        return {
            "kind": "cpu",
            "name": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
        }
    facts = torch.cuda.get_device_properties(setting.device)
    return {
        "kind": "cuda",
        "name": facts.name,
        "memory_gib": facts.total_memory / 2**30,
        "multiprocessors": facts.multi_processor_count,
        "peak_bf16_flops": device_peak_flops(setting.device),
    }


def _commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
        )
    except OSError:
        return None
    return done.stdout.strip() or None
