"""The steps of the full run: each once to its end, over as many attempts as it takes."""

import json
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.twelve_million.attempts import Attempt
from training import files

MAX_FAILURES = 3
"""Attempts of a step that may fail one after the other before the run ends."""


class StepFailed(Exception):
    """A step ended with an error again and again; the message names its log."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is run; another one needs another folder."""

    rows: int
    shards: int
    seed: int
    sequence_length: int
    ngram: int
    train_steps: int
    resumes: int
    tokenizer: str
    """Tokenizer folder or hub id, or `train`."""
    gsm8k: str
    """Folder with GSM8K's `train.jsonl` and `test.jsonl`."""
    run_programs: bool


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command that makes `makes` from what the steps before it made."""

    name: str
    command: tuple[str, ...]
    is_killed: bool
    """Whether it is killed in a run with kills, to see that it continues."""
    facts: Callable[[], dict[str, Any]]
    """What it made, read once it has ended."""


class Run:
    """A folder with the data, the logs, and `run.json`, the record of all attempts."""

    def __init__(self, folder: Path, settings: Settings, num_workers: int) -> None:
        """Open the folder's record, or begin one.

        Raises:
            SystemExit: the folder's record is of other settings.
        """
        self.folder, self.settings = folder, settings
        self._num_workers = num_workers
        self._record_path = folder / "run.json"
        self.record: dict[str, Any] = {"settings": vars(settings), "steps": {}}
        if self._record_path.is_file():
            self.record = json.loads(self._record_path.read_text())
            if self.record["settings"] != vars(settings):
                raise SystemExit(f"{self._record_path} is of other settings: use another folder")

    def steps(self) -> list[Step]:
        """The steps, in order."""
        settings, data = self.settings, self.folder / "data"
        rows = ("--rows", str(settings.rows), "--shards", str(settings.shards))
        written = (*self._python("tests.bench.stand_in"), str(self.folder / "tinygsm"))
        gsm8k = str(Path(settings.gsm8k) / "train.jsonl")
        return [
            Step(
                name="write",
                command=(*written, *rows, "--seed", str(settings.seed), "--gsm8k", gsm8k)
                + ("--workers", str(self._num_workers)),
                is_killed=True,
                facts=self._written,
            ),
            Step(
                name="measure",
                command=(*written, "--measure", "--out", str(self.folder / "measured.json")),
                is_killed=False,
                facts=lambda: json.loads((self.folder / "measured.json").read_text()),
            ),
            Step(
                name="prepare",
                command=(sys.executable, "launch/prepare.py", str(self._config())),
                is_killed=True,
                facts=lambda: self._prepared(data),
            ),
            Step(
                name="order",
                command=(*self._python("tests.bench.twelve_million.order"), str(data))
                + ("--sequence-length", str(settings.sequence_length))
                + ("--resumes", str(settings.resumes), "--out", str(self.folder / "order.json")),
                is_killed=False,
                facts=lambda: json.loads((self.folder / "order.json").read_text()),
            ),
            Step(
                name="train",
                command=(sys.executable, "launch/train.py", str(self._config())),
                is_killed=False,
                facts=self._trained,
            ),
        ]

    def finish(self, step: Step, *, kills: Iterable[float] = ()) -> None:
        """Run a step to its end, unless it is finished.

        Args:
            step: The step.
            kills: Seconds after which an attempt is killed, one for each attempt to kill.

        Raises:
            StepFailed: it fails for another reason than a kill.
            KeyboardInterrupt: this script is asked to stop; the record is complete.
        """
        record = self.record["steps"].setdefault(step.name, {"attempts": []})
        moments, failures = iter(kills), 0
        while "facts" not in record:
            usage = self._attempt(step, record["attempts"], next(moments, None))
            if usage["exit_code"] == 0:
                record["facts"] = step.facts()
            elif not usage["was_killed"]:
                failures += 1
                if failures == MAX_FAILURES:
                    raise StepFailed(f"{step.name} failed: see {self._log(step)}")
            self._save()

    def _attempt(
        self, step: Step, attempts: list[dict[str, Any]], kill_after: float | None
    ) -> dict[str, Any]:
        attempt = Attempt(step.command, self._log(step))
        attempts.append(attempt.usage.as_dict())
        try:
            while attempt.is_running():
                attempts[-1] = attempt.usage.as_dict()
                self._save()
                if kill_after is None:
                    attempt.wait()
                elif attempt.usage.wall_seconds < kill_after:
                    attempt.wait(min(2.0, kill_after - attempt.usage.wall_seconds + 0.05))
                else:
                    attempt.kill()
        except KeyboardInterrupt:
            attempt.stop()
            attempts[-1] = attempt.usage.as_dict()
            self._save()
            raise
        attempts[-1] = attempt.usage.as_dict()
        return attempts[-1]

    def _save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write_json(self._record_path, self.record)

    def _log(self, step: Step) -> Path:
        return self.folder / "logs" / f"{step.name}.log"

    def _python(self, module: str) -> tuple[str, ...]:
        return sys.executable, "-m", module

    def _config(self) -> Path:
        """The training config of the run, written to its folder."""
        settings = self.settings
        test = Path(settings.gsm8k) / "test.jsonl"
        tokenizer = {"source": settings.tokenizer}
        if settings.tokenizer == "train":
            tokenizer |= {"vocab_size": 1024}  # pyright: ignore[reportOperatorIssue]
        config = {
            "run": {"name": "twelve-million", "folder": str(self.folder / "train")},
            "model": {
                "hidden_size": 64,
                "num_layers": 2,
                "num_heads": 2,
                "ffn_size": 128,
                "vocab_size": 51200,
                "max_tokens": settings.sequence_length,
            },
            "data": {
                "folder": str(self.folder / "data"),
                "sources": [{"kind": "parquet", "path": str(self.folder / "tinygsm")}],
                "tokenizer": tokenizer,
                "sequence_length": settings.sequence_length,
                "decontaminate": [{"name": "gsm8k", "kind": "gsm8k", "path": str(test)}],
                "decontaminate_ngram": settings.ngram,
                "run_programs": settings.run_programs,
                "num_workers": self._num_workers,
            },
            "training": {
                "max_steps": settings.train_steps,
                "global_batch_sequences": 8,
                "micro_batch_sequences": 4,
                "precision": "fp32",
                "log_every_steps": 1,
            },
            "optimizer": {"warmup_steps": 1},
            "checkpoint": {"every_steps": settings.train_steps},
        }
        path = self.folder / "config.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write_json(path, config)
        return path

    def _written(self) -> dict[str, Any]:
        paths = sorted((self.folder / "tinygsm").glob("*.parquet"))
        counts = [json.loads(path.read_text()) for path in self._counts()]
        names = {name for each in counts for name in each["counts"]}
        return {
            "sha256": files.sha256_json([files.sha256_file(path) for path in paths]),
            "bytes": sum(path.stat().st_size for path in paths),
            "counts": {n: sum(each["counts"].get(n, 0) for each in counts) for n in sorted(names)},
        }

    def _counts(self) -> list[Path]:
        return sorted((self.folder / "tinygsm" / "counts").glob("*.json"))

    def _prepared(self, data: Path) -> dict[str, Any]:
        manifest = json.loads((data / "manifest.json").read_text())
        paths = [path for path in sorted(data.rglob("*")) if path.is_file()]
        contents = [path for path in paths if path.name != "manifest.json"]
        return {
            "sha256": files.sha256_json([files.sha256_file(path) for path in contents]),
            "bytes": sum(path.stat().st_size for path in paths),
            "facts": manifest["facts"],
        }

    def _trained(self) -> dict[str, Any]:
        lines = (self.folder / "train" / "metrics.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        losses = [row["train/loss"] for row in rows if "train/loss" in row]
        return {"losses": losses}


def run_again(first: Run, again: Run, kills: int, seed: int) -> dict[str, Any]:
    """Run the steps that write data once more, killed at random moments; compares the bytes.

    Raises:
        StepFailed: a step fails, or writes other bytes than it did in `first`.
    """
    generator = random.Random(seed)
    for step in again.steps():
        if not step.is_killed:
            continue
        before = first.record["steps"][step.name]
        seconds = sum(attempt["wall_seconds"] for attempt in before["attempts"])
        left = kills - _num_killed(again, step)
        again.finish(step, kills=[generator.uniform(0, seconds / 2) for _ in range(left)])
        after = again.record["steps"][step.name]
        if after["facts"]["sha256"] != before["facts"]["sha256"]:
            raise StepFailed(f"{step.name} wrote other bytes after kills: {again.folder}")
    return {step.name: _num_killed(again, step) for step in again.steps() if step.is_killed}


def _num_killed(run: Run, step: Step) -> int:
    attempts = run.record["steps"].get(step.name, {"attempts": []})["attempts"]
    return sum(attempt["was_killed"] for attempt in attempts)


def totals(attempts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Time summed and memory at its greatest over the attempts of a step."""
    return {
        "attempts": len(attempts),
        "wall_seconds": round(sum(attempt["wall_seconds"] for attempt in attempts), 1),
        "cpu_seconds": round(sum(attempt["cpu_seconds"] for attempt in attempts), 1),
        "peak_bytes": max(attempt["peak_bytes"] for attempt in attempts),
        "largest_process_bytes": max(attempt["largest_process_bytes"] for attempt in attempts),
    }
