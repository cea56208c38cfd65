"""From starting the command to the end of the first update, beside a script with the Trainer.

    make bench BENCH="--only startup startup.rounds=9"

Ours is `launch/train.py` on prepared data: it checks its config, the data and the run folder, and
has all that a run has. The peer's script (tests/bench/peers/first_update.py) reads the same
examples, builds the same model and makes one update. Both are measured from outside, in turn.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.examples import CONFIG, examples_of, prepared, settings, steps_of
from tests.bench.execution import cpu_seconds
from tests.bench.gpu.record import Record, short
from tests.bench.gpu.setting import ROOT, installed
from tests.bench.sizes import Startup
from training.config import TrainConfig
from training.config.model_json import config_of
from training.models.build import shape_of

_FIRST = "step 1"
"""What both print when the first update is made."""
_LIMIT_SECONDS = 300

Command = tuple[list[str], dict[str, str]]
"""Arguments of Python, and the environment."""
Clocks = tuple[float, float]
"""Wall-clock and CPU seconds."""


def run(sizes: Startup, folder: Path, record: Record) -> None:
    """Rows of whole commands, then of the phases of ours."""
    config = prepared(folder, sizes.examples)
    own = {**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    with tempfile.TemporaryDirectory() as scratch:
        ours = _ours(folder, sizes.examples, Path(scratch) / "run")
        commands: dict[str, Command] = {
            "ours, launch/train.py": (["launch/train.py", *ours], own),
            "ours, tracking.mode=disabled": (
                ["launch/train.py", *ours, "tracking.mode=disabled"],
                own,
            ),
            "python -c 'import torch'": (["-c", f"import torch; print({_FIRST!r})"], own),
        }
        if installed("accelerate"):
            commands["Trainer"] = _trainer(config, Path(scratch)), dict(os.environ)
        else:
            record.row(what="Trainer", **{"left out": "accelerate is not installed"})
        _compare(commands, sizes.rounds, record)
        _phases(ours, own, sizes.rounds, Path(scratch) / "phases.json", record)
    record.note(
        "Seconds from starting the process to the end of the first update, and CPU seconds until "
        "then. Ours as shipped writes a W&B run, offline here; the peer's script writes none. The "
        "phases of ours are of further runs of the same command."
    )


def _ours(folder: Path, examples: int, run_folder: Path) -> list[str]:
    return [
        str(CONFIG),
        *settings(folder, examples),
        *("training.max_steps=2", "optimizer.warmup_steps=0", "training.micro_batch_sequences=4"),
        *("training.log_every_steps=1", f"run.folder={run_folder}"),
    ]


def _trainer(config: TrainConfig, scratch: Path) -> list[str]:
    """The script's arguments; writes what it reads."""
    from datasets import Dataset

    model = scratch / "model.json"
    shape = shape_of(config.model)
    facts = config_of(shape.settings(), "language_model", "float32", end_token=None)
    model.write_text(json.dumps({**facts, "use_cache": False}), encoding="utf-8")
    steps = [
        [example.tolist() for batch in step for example in examples_of(batch)]
        for step in steps_of(config, 4)
    ]
    data = Dataset.from_dict({"input_ids": [ids for step in steps for ids in step]})
    data.save_to_disk(str(scratch / "data"))
    return [
        "tests/bench/peers/first_update.py",
        str(model),
        str(scratch / "data"),
        str(len(steps[0])),
    ]


def _compare(commands: Mapping[str, Command], rounds: int, record: Record) -> None:
    found: dict[str, list[Clocks]] = {name: [] for name in commands}
    failed: dict[str, str] = {}
    for number in range(rounds + (rounds > 1)):
        for name, (arguments, environment) in commands.items():
            if name in failed:
                continue
            try:
                clocks = _until_first_update(arguments, environment)
            except RuntimeError as error:
                failed[name] = short(error)
                continue
            if number or rounds == 1:  # the first round reads files that are then cached
                found[name].append(clocks)
    for name, clocks in found.items():
        if name in failed:
            record.row(what=name, error=failed[name])
        else:
            record.row(what=name, **_columns(clocks))


def _columns(clocks: Sequence[Clocks]) -> dict[str, list[float]]:
    return {"s": [each[0] for each in clocks], "CPU s": [each[1] for each in clocks]}


def _until_first_update(arguments: Sequence[str], environment: Mapping[str, str]) -> Clocks:
    """Start the command, wait for its line, end it.

    Raises:
        RuntimeError: it ended without.
    """
    with tempfile.TemporaryFile("w+") as errors:
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-u", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if _FIRST in line:
                    return time.perf_counter() - begin, sum(cpu_seconds(process.pid).values())
            process.wait(_LIMIT_SECONDS)
            errors.seek(0)
            raise RuntimeError((errors.read().strip().splitlines() or ["no output"])[-1])
        finally:
            process.kill()
            process.wait()


def _phases(
    ours: Sequence[str], environment: Mapping[str, str], rounds: int, out: Path, record: Record
) -> None:
    """Where the time of ours goes."""
    found: dict[str, list[Clocks]] = {}
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.startup_phases", str(out), *ours],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_LIMIT_SECONDS,
        )
        if done.returncode or not out.is_file():
            lines = done.stderr.strip().splitlines() or ["no output"]
            record.row(what="phases of ours", error=lines[-1])
            return
        for name, clocks in json.loads(out.read_text(encoding="utf-8")).items():
            found.setdefault(name, []).append(clocks)
    for name, clocks in found.items():
        record.row(what=f"of ours: {name}", **_columns(clocks))
