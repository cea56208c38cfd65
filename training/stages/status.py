"""Where a run stands, read from its folder's files alone: no torch, no Slurm, no network.

    for line in describe(Path("runs/paper_1b3")): print(line)

A folder is a recipe's, with a folder for each stage, or one stage's. What no file
holds is left out.
"""

import json
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from training.checkpoint_paths import saved_step
from training.config import STAGE_VERBS
from training.files import read_json_object
from training.lifecycle import attempts
from training.lifecycle.run_folder import CONFIG, RUN, verb_of
from training.manifest import MANIFEST
from training.monitoring import metrics_file, names
from training.stages import jobs

_LATEST_STEPS = 50
"""Steps whose median gives the rate."""
_SECONDS_OF_SILENCE = 600.0
"""After which an unfinished stage is taken for one that does not run."""


@dataclass(frozen=True, slots=True)
class _Metrics:
    """What metrics.jsonl says of the newest steps."""

    last: Mapping[str, Any]
    """The newest training step's numbers; empty: there is none."""
    step_seconds: float
    evaluation: Mapping[str, Any]
    """The newest evaluation's numbers, with its step."""


def describe(folder: Path, *, now: float | None = None) -> Iterator[str]:
    """Lines for people about a run.

    Args:
        folder: A recipe's or a stage's folder.
        now: Unix seconds; the present by default.

    Raises:
        FileNotFoundError: the folder is not there, or is no run's.
    """
    now = time.time() if now is None else now
    if not folder.is_dir() and attempts.parts_folder(folder).is_dir():
        yield from _stage(folder, "prepare", now)
    elif not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist: name a run folder, such as runs/demo")
    elif (folder / CONFIG).is_file():
        yield from _recipe(folder, now)
    elif any((folder / name).is_file() for name in (RUN, MANIFEST, attempts.ATTEMPTS)):
        yield from _stage(folder, _verb(folder), now)
    else:
        raise FileNotFoundError(
            f"{folder} holds none of config.json, run.json and {MANIFEST}: it is no run folder, "
            "or its run has not started"
        )


def _recipe(folder: Path, now: float) -> Iterator[str]:
    submitted = jobs.read(folder)
    for name, verb in STAGE_VERBS.items():
        job = f" (job {submitted[name]})" if name in submitted else ""
        yield f"{name}{job}"
        if _has_begun(folder / name, verb):
            yield from (f"  {line}" for line in _stage(folder / name, verb, now))
        else:
            yield "  not started"
    page = folder / "report.html"
    yield f"report: {page if page.is_file() else 'not there yet'}"


def _has_begun(folder: Path, verb: str) -> bool:
    beside = (
        (attempts.jobs_folder(folder), attempts.parts_folder(folder)) if verb == "prepare" else ()
    )
    return any(place.is_dir() for place in (folder, *beside))


def _verb(folder: Path) -> str:
    """Which verb a stage's folder is of."""
    config = _json(folder / RUN) or _json(folder / MANIFEST).get("config", {})
    return verb_of(config) or "prepare"


def _stage(folder: Path, verb: str, now: float) -> Iterator[str]:
    config = _json(folder / RUN)
    metrics = _metrics(folder)
    yield f"{verb}: {_state(folder, verb, now)}"
    if verb == "train":
        yield from _training(folder, config, metrics)
    elif verb in ("sample", "evaluate"):
        yield _parts(folder, config, verb)
    elif made := len(list(attempts.parts_folder(folder).glob("part-*.parquet"))):
        yield f"{made} parts of rows are made"
    facts = _json(folder / MANIFEST).get("facts", {})
    numbers = [f"{name} {value:,}" for name, value in facts.items() if isinstance(value, int)]
    if numbers:
        yield ", ".join(numbers)
    if metrics.evaluation:
        yield _evaluation(metrics.evaluation)
    yield from _last_alert(folder, now)
    yield from _history(attempts.jobs_folder(folder) if verb == "prepare" else folder)
    yield from _tracking(folder)


def _state(folder: Path, verb: str, now: float) -> str:
    if (folder / MANIFEST).is_file():
        started, made = _json(folder / RUN), _json(folder / MANIFEST).get("config")
        # A training run that was finished may be extended: run.json is then the longer one's.
        if verb != "train" or not started or started == made:
            return "finished"
    age = _seconds_since_change(folder, now)
    if age is None:
        return "not started"
    if age > _SECONDS_OF_SILENCE:
        return f"unfinished, no activity for {duration(age)}"
    return f"unfinished, last activity {duration(age)} ago"


def _training(folder: Path, config: Mapping[str, Any], metrics: _Metrics) -> Iterator[str]:
    last = metrics.last
    total = int(config.get("training", {}).get("max_steps", 0))
    if not last:
        yield f"no step of {total:,} yet"
        return
    step = int(last["step"])
    line = f"step {step:,} of {total:,}, saved at {saved_step(folder):,}"
    line += f"; {int(last.get('train/tokens', 0)):,} tokens"
    if "train/tokens_per_second" in last:
        line += f", {float(last['train/tokens_per_second']):,.0f} a second"
    if "train/mfu" in last:
        line += f", MFU {100 * float(last['train/mfu']):.1f} %"
    yield line
    line = f"loss {float(last['train/loss']):.4f}"
    if step < total and metrics.step_seconds:
        line += f"; {duration((total - step) * metrics.step_seconds)} left at this rate"
    if "goodput/productive_fraction" in last:
        line += f"; goodput {100 * float(last['goodput/productive_fraction']):.0f} %"
    yield line


def _parts(folder: Path, config: Mapping[str, Any], verb: str) -> str:
    """How many parts of candidates are there; of how many, where the config says so."""
    num_parts = len(list(folder.rglob("part-*.parquet")))
    if verb == "sample":
        section = config.get("sampling", {})
        question_sets = [section.get("questions", {})] * len(section.get("checkpoints", []))
    else:
        section = config.get("evaluation", {})
        question_sets = section.get("benchmarks", [])
    counts = [int(entry.get("num_questions", 0)) for entry in question_sets]
    each = int(section.get("questions_per_part", 0))
    if not each or not all(counts):
        return f"{num_parts} parts of candidates"
    return f"{num_parts} of {sum(-(-count // each) for count in counts)} parts of candidates"


def _evaluation(line: Mapping[str, Any]) -> str:
    """`evaluation at step 1,000: gsm8k pass_at_1 0.412, verify_at_k 0.455`."""
    shown = ("pass_at_1", "majority_at_k", "verify_at_k")
    found: dict[str, list[str]] = {}
    for name, value in line.items():
        parts = name.split("/")
        if len(parts) == 3 and parts[2] in shown:
            found.setdefault(parts[1], []).append(f"{parts[2]} {float(value):.3f}")
    what = "; ".join(f"{name} {', '.join(values)}" for name, values in found.items())
    return f"evaluation at step {int(line['step']):,}: {what}"


def _last_alert(folder: Path, now: float) -> Iterator[str]:
    """The newest line of alerts.jsonl."""
    for text in reversed(_text(folder / "alerts.jsonl").splitlines()):
        alert = _object(text)
        if "time" in alert:
            text = " ".join(alert["text"].split())
            yield f"alert {duration(now - alert['time'])} ago: {alert['title']}: {text}"
            return


def _history(folder: Path) -> Iterator[str]:
    """Jobs, restarts, and where the ranks' output is."""
    begun = attempts.read(folder)
    if not begun:
        return
    last = begun[-1]
    num_jobs = len({entry["job"] for entry in begun})
    restarts = sum(entry["attempt"] > 0 for entry in begun)
    yield (
        f"job {last['job']}, attempt {last['attempt']} on {last['nodes'] or 'this machine'}, "
        f"from {last['progress']}; jobs: {num_jobs}, restarts: {restarts}"
    )
    yield f"logs: {folder / 'logs' / ('job-' + last['job']) / ('attempt-' + str(last['attempt']))}"


def _tracking(folder: Path) -> Iterator[str]:
    """The W&B run: its page, or its offline pieces."""
    link, run_id = _text(folder / "wandb_link"), _text(folder / "wandb_run_id")
    if link.startswith("http"):
        yield f"W&B: {link}"
    elif run_id and any((folder / "wandb").glob("offline-run-*")):
        pieces = folder / "wandb" / "offline-run-*"
        yield f"W&B: run {run_id} is offline; upload: wandb sync {pieces}"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def _metrics(folder: Path) -> _Metrics:
    last: dict[str, Any] = {}
    evaluation: dict[str, Any] = {}
    seconds: list[float] = []
    for line in metrics_file.read_lines(folder):
        if names.LOSS in line:
            last = line
            seconds = [*seconds[1 - _LATEST_STEPS :], float(line.get(names.TIME_STEP, 0.0))]
        if any(name.startswith(names.EVALUATION) for name in line):
            evaluation = line
    rate = statistics.median(seconds) if seconds else 0.0
    return _Metrics(last, rate, evaluation)


def _object(text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError:  # torn by a kill, or being written
        return {}
    return cast("dict[str, Any]", line) if isinstance(line, dict) else {}


def _seconds_since_change(folder: Path, now: float) -> float | None:
    """Since anything was written that a running stage writes; None: nothing was."""
    patterns = (
        metrics_file.NAME,
        "logs/*/*/rank-*.log",
        "part-*.parquet",
        "parts/*/part-*.parquet",
    )
    times = [path.stat().st_mtime for pattern in patterns for path in folder.glob(pattern)]
    times += [path.stat().st_mtime for path in attempts.parts_folder(folder).glob("part-*.parquet")]
    times += [entry["started"] for entry in attempts.read(folder)[-1:]]
    return max(0.0, now - max(times)) if times else None


def _json(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.is_file() else {}


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    minutes = int(seconds) // 60
    if minutes < 2:
        return f"{int(seconds)} s"
    if minutes < 120:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
