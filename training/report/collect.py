"""Read what the stages left in a run's folder; anything may be missing.

    run = collect(Path("runs/demo"))

Only a folder without any result at all is an error. Configs are read as plain JSON, so
that runs of an older version still give a page.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.config import STAGE_VERBS
from training.data import candidates
from training.errors import DamagedFileError
from training.files import read_json_object
from training.monitoring import names
from training.monitoring.metrics_file import read_lines
from training.records import Candidate
from training.report.formatting import Interval, finite, interval

Tree = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Operations:
    """Accuracies on the questions that need one number of operations."""

    num_questions: int
    greedy: Interval | None
    pass_at_n: Interval | None
    majority_at_n: Interval | None
    verify_at_n: Interval | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """One measure on the questions that a benchmark shares with GSM8K."""

    here: Interval
    there: Interval
    """On GSM8K."""
    difference: Interval
    """Here minus there, by question."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Against:
    """A benchmark beside GSM8K."""

    reference: str
    """GSM8K's name in this evaluation."""
    num_pairs: int
    """GSM8K questions that have a partner; 0: the two are not paired."""
    num_questions: int
    """The benchmark's questions in these pairs."""
    measures: Mapping[str, Compared]


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """One benchmark's results; `verify_at_k` is empty without a verifier."""

    name: str
    num_questions: int
    num_candidates: int
    greedy: Interval | None
    """pass@1 of the program decoded at temperature 0."""
    pass_at_k: Mapping[int, Interval]
    majority_at_k: Mapping[int, Interval]
    verify_at_k: Mapping[int, Interval]
    verify_minus_greedy: Interval | None
    verify_minus_majority: Interval | None
    by_operations: Mapping[str, Operations]
    num_left_out: int = 0
    """Questions whose gold is no number."""
    against: Against | None = None
    corrected: "Benchmark | None" = None
    """The same candidates by corrected golds."""
    num_changed: int = 0
    """Of a corrected one: golds that differ from the published ones."""
    num_removed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One training run, step by step. All sequences but the evaluations are aligned."""

    name: str
    tokens: tuple[float, ...]
    """Tokens seen by the end of each step; step numbers where tokens are not recorded."""
    counts_tokens: bool
    losses: tuple[float, ...]
    evaluations: Mapping[str, tuple[tuple[float, float], ...]]
    """`NAME/metric` to (tokens, value), values as they were logged."""
    num_steps: int
    seconds: float
    """Time spent in steps, steps repeated after a restart included."""
    tokens_per_second: float | None
    """Median over steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """Verdicts of the verifier's training candidates from one checkpoint and temperature."""

    generator: str
    temperature: float
    counts: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """All that the page is made of."""

    folder: Path
    config: Tree
    manifests: Mapping[str, Tree]
    """Stage name to its manifest, for finished stages."""
    evaluation: Tree
    """`evaluation.json`'s benchmarks as they stand."""
    benchmarks: tuple[Benchmark, ...]
    curves: tuple[Curve, ...]
    sampled: tuple[Sampled, ...]
    seconds: Mapping[str, float]
    """What the recipe says of each stage's time, over all its attempts."""

    def facts(self, stage: str) -> Tree:
        """The facts in the stage's manifest; empty when it did not finish."""
        facts = self.manifests.get(stage, {}).get("facts")
        return facts if isinstance(facts, Mapping) else {}


def collect(folder: Path) -> Run:
    """Read a recipe's run folder, or the folder of an evaluation on its own.

    Raises:
        FileNotFoundError: the folder is not there or holds no result of any stage.
        DamagedFileError: a JSON file is malformed, or is of another form.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: name a run's folder")
    evaluation = _evaluation_folder(folder) / "evaluation.json"
    raw = _benchmarks_of(evaluation)
    manifests = {
        stage: read_json_object(path)
        for stage in STAGE_VERBS
        if (path := folder / stage / "manifest.json").is_file()
    }
    curves = tuple(
        curve for name in ("generator", "verifier") if (curve := _curve(folder / name, name))
    )
    if not raw and not manifests and not curves:
        raise FileNotFoundError(
            f"{folder} holds no result of a recipe: neither evaluation/evaluation.json nor a "
            "stage's manifest.json or metrics.jsonl. Name the recipe's run.folder"
        )
    config, spent = folder / "config.json", folder / "seconds.json"
    return Run(
        folder=folder,
        config=read_json_object(config) if config.is_file() else {},
        manifests=manifests,
        evaluation=raw,
        benchmarks=tuple(_benchmark(name, entry) for name, entry in raw.items()),
        curves=curves,
        sampled=_sampled(manifests.get("candidates", {}).get("facts")),
        seconds=read_json_object(spent) if spent.is_file() else {},
    )


def read_candidates(run: Run, benchmark: str) -> list[Candidate]:
    """The benchmark's candidates with their scores; empty where they were not kept."""
    path = _evaluation_folder(run.folder) / f"candidates_{benchmark}.parquet"
    if not path.is_file():
        return []
    return list(candidates.read(path))


def _evaluation_folder(folder: Path) -> Path:
    return folder / "evaluation" if (folder / "evaluation").is_dir() else folder


def _benchmarks_of(path: Path) -> dict[str, Tree]:
    """The benchmarks in an `evaluation.json`; none where there is no such file."""
    found = read_json_object(path).get("benchmarks", {}) if path.is_file() else {}
    if not isinstance(found, dict) or not all(isinstance(entry, dict) for entry in found.values()):
        raise DamagedFileError(f"{path} is damaged: its benchmarks are no JSON objects")
    return found


def _benchmark(name: str, raw: Tree) -> Benchmark:
    return Benchmark(
        name=name,
        num_questions=int(raw.get("num_questions") or 0),
        num_candidates=int(raw.get("num_candidates") or 0),
        greedy=interval(raw.get("pass_at_1")),
        pass_at_k=_by_k(raw.get("pass_at_k")),
        majority_at_k=_by_k(raw.get("majority_at_k")),
        verify_at_k=_by_k(raw.get("verify_at_k")),
        verify_minus_greedy=interval(raw.get("verify_minus_pass_at_1")),
        verify_minus_majority=interval(raw.get("verify_minus_majority_at_n")),
        by_operations={
            key: Operations(
                num_questions=int(entry.get("num_questions") or 0),
                greedy=interval(entry.get("pass_at_1")),
                pass_at_n=interval(entry.get("pass_at_n")),
                majority_at_n=interval(entry.get("majority_at_n")),
                verify_at_n=interval(entry.get("verify_at_n")),
            )
            for key, entry in sorted((raw.get("by_operations") or {}).items(), key=_numeric)
        },
        num_left_out=int(raw.get("num_left_out") or 0),
        against=_against(raw.get("against_gsm8k")),
        corrected=_benchmark(name, raw["corrected"]) if raw.get("corrected") else None,
        num_changed=int(raw.get("num_changed") or 0),
        num_removed=int(raw.get("num_removed") or 0),
    )


def _against(raw: Any) -> Against | None:
    if not isinstance(raw, Mapping):
        return None
    measures: dict[str, Compared] = {}
    for name, entry in raw.items():
        if isinstance(entry, Mapping):
            ends = [interval(entry.get(key)) for key in ("here", "there", "difference")]
            here, there, difference = ends
            if here and there and difference:
                measures[name] = Compared(here=here, there=there, difference=difference)
    return Against(
        reference=str(raw.get("reference")),
        num_pairs=int(raw.get("num_pairs") or 0),
        num_questions=int(raw.get("num_questions") or 0),
        measures=measures,
    )


def _numeric(item: tuple[str, Any]) -> tuple[float, str]:
    key = item[0]
    return (float(key) if key.replace(".", "", 1).isdigit() else math.inf, key)


def _by_k(raw: Any) -> dict[int, Interval]:
    if not isinstance(raw, Mapping):
        return {}
    read = {int(k): interval(entry) for k, entry in raw.items() if str(k).isdigit()}
    return {k: value for k, value in sorted(read.items()) if value is not None}


def _curve(folder: Path, name: str) -> Curve | None:
    lines = list(read_lines(folder))
    # A restarted run repeats steps: the last values are those it resumed from.
    steps: dict[float, Tree] = {}
    for line in lines:
        step = finite(line.get(names.STEP))
        if step is not None and finite(line.get(names.LOSS)) is not None:
            steps[step] = line
    if not steps:
        return None
    kept = [steps[step] for step in sorted(steps)]
    counts_tokens = all(finite(line.get(names.TOKENS)) is not None for line in kept)
    axis = names.TOKENS if counts_tokens else names.STEP
    positions = {step: float(steps[step][axis]) for step in sorted(steps)}
    speeds = sorted(
        speed for line in kept if (speed := finite(line.get(names.TOKENS_PER_SECOND))) is not None
    )
    return Curve(
        name=name,
        tokens=tuple(positions.values()),
        counts_tokens=counts_tokens,
        losses=tuple(float(line[names.LOSS]) for line in kept),
        evaluations=_evaluations(lines, positions, axis),
        num_steps=int(max(steps)),
        seconds=sum(finite(line.get(names.TIME_STEP)) or 0.0 for line in lines),
        tokens_per_second=speeds[len(speeds) // 2] if speeds else None,
    )


def _evaluations(
    lines: Iterable[Tree], positions: Mapping[float, float], axis: str
) -> dict[str, tuple[tuple[float, float], ...]]:
    values_of: dict[str, dict[float, float]] = {}
    for line in lines:
        step = finite(line.get(names.STEP))
        # An evaluation line may carry no token count of its own.
        position = finite(line.get(axis))
        if position is None and step is not None:
            position = positions.get(step, 0.0 if step == 0 else None)
        for key, raw in line.items():
            value = finite(raw)
            if key.startswith(names.EVALUATION) and value is not None and position is not None:
                values_of.setdefault(key.removeprefix(names.EVALUATION), {})[position] = value
    return {key: tuple(sorted(values.items())) for key, values in sorted(values_of.items())}


def _sampled(facts: Any) -> tuple[Sampled, ...]:
    """Verdicts by checkpoint and temperature, as the sample stage counted them."""
    by_generator = facts.get("by_generator") if isinstance(facts, Mapping) else None
    groups = {
        (str(generator), float(temperature)): counts
        for generator, temperatures in (by_generator or {}).items()
        for temperature, counts in temperatures.items()
    }
    return tuple(
        Sampled(generator=generator, temperature=temperature, counts=groups[generator, temperature])
        for generator, temperature in sorted(groups, key=_checkpoint_order)
    )


def _checkpoint_order(key: tuple[str, float]) -> tuple[int, str, float]:
    digits = key[0].rsplit("_", 1)[-1]
    return (int(digits) if digits.isdigit() else 0, key[0], key[1])
