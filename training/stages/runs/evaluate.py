"""Evaluating a saved generator, with or without a verifier, on benchmarks.

    evaluation = evaluate(config, ranks)

What is left in the run folder:

    evaluation.json             every measure of every benchmark, with intervals, and differences
                                from GSM8K where it is one of them
    candidates_NAME.parquet     all candidates with scores; the greedy one has temperature 0
    questions_NAME.parquet      the questions with gold
    parts/NAME/part-*.parquet   what the ranks wrote; a killed stage resumes from them

First all candidates are drawn, then all are scored, so that generator and verifier are
never in memory together. Another verifier in the same folder scores what is there.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from parallel.ranks import Ranks
from training import files, manifest
from training.config import EvaluateConfig, resolved
from training.data import candidates, corrections
from training.data.corrections import Corrections
from training.data.held_out import refuse_shared
from training.evaluation import benchmark, load, pairs, slices, work
from training.evaluation.benchmark import Answers, BenchmarkResult
from training.evaluation.corrected import corrected
from training.evaluation.sampler import Sampler
from training.evaluation.slices import Slice
from training.evaluation.statistics import Outcomes
from training.execution.executor import Executor
from training.lifecycle.cancellation import Cancellation
from training.monitoring.tracking import Tracker
from training.records import Question
from training.stages.runs.candidates import (
    TIMEOUT_MINUTES,
    is_finished,
    made_from,
    progress_on_main,
    read_questions,
    refuse_run_folder,
    supervised,
)

EVALUATION = "evaluation.json"


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is to be done: the same on all ranks."""

    questions: dict[str, list[Question]]
    """By benchmark."""
    num_left_out: dict[str, int]
    """By benchmark: questions whose gold is no number."""
    corrections: Corrections
    inputs: dict[str, str]
    made_from: dict[str, str]
    """By benchmark: the fingerprint of what decides its candidates."""
    parts: list[tuple[str, work.Part]]
    waiting: list[tuple[str, work.Part]]
    """Parts that no earlier attempt has drawn."""
    finished: bool


def evaluate(config: EvaluateConfig, ranks: Ranks) -> dict[str, Any]:
    """Draw, score and measure what is missing; `evaluation.json`'s content, on every rank.

    Raises:
        ConfigError: a benchmark without questions, or a model that cannot be used.
        FileNotFoundError: a model or a benchmark is not there.
        FileExistsError: `run.resume` is `never` and the folder holds candidates, or the folder
            is another run's.
        IsolationError: programs cannot be run in isolation on this machine.
        Stopped: a signal came to one of the ranks; the parts that were whole are saved.
    """
    device = ranks.device()
    ranks.connect(device, timeout_minutes=TIMEOUT_MINUTES)
    started = time.monotonic()
    plan = ranks.on_main(lambda: _plan(config))
    if plan.finished:
        work.log_finished(config.run, ranks)
        return ranks.on_main(lambda: files.read_json(config.run.folder / EVALUATION))
    load.check(
        [(config.evaluation.generator, "language_model"), (config.evaluation.verifier, "verifier")],
        ranks,
    )
    with supervised(config, ranks, verb="evaluate") as (cancellation, tracker):
        mine = slices.of_rank(plan.waiting, ranks, size=lambda named: named[1].size)
        with cancellation.independent_work():
            _draw(config, plan, mine, ranks, device, cancellation)
        for (name, part), piece in mine:
            piece.join(_parts_folder(config.run.folder, name), part)
        ranks.barrier()
        # Decided once for all: while one rank looks, another may already score.
        stale = ranks.on_main(lambda: _stale(config, plan))
        with cancellation.independent_work():
            _score(config, plan, work.of_rank(stale, ranks), ranks, device, cancellation)
        return ranks.on_main(lambda: _commit(config, plan, tracker, started))


def status(config: EvaluateConfig) -> manifest.Status:
    """What `evaluate` would do now; nothing is written. Raises as `evaluate`.

    Models and questions of the hub would be fetched.
    """
    plan = _plan(config, looks_only=True)
    if plan.finished:
        return manifest.Status("has nothing to do: all is measured", True)
    drawn, total = len(plan.waiting), len(plan.parts)
    if not config.evaluation.verifier:
        return manifest.Status(f"draws {drawn} of {total} parts, scores none: no verifier")
    return manifest.Status(f"draws {drawn} of {total} parts, scores {len(_stale(config, plan))}")


def _plan(config: EvaluateConfig, *, looks_only: bool = False) -> _Plan:
    folder, evaluation = config.run.folder, config.evaluation
    refuse_run_folder(folder, verb="evaluate")
    names = [entry.name for entry in evaluation.benchmarks]
    read = {
        entry.name: read_questions(f"benchmark {entry.name}", entry)
        for entry in evaluation.benchmarks
    }
    questions = {name: found.questions for name, found in read.items()}
    corrected_golds = corrections.read(evaluation.corrections)
    corrections.refuse_unmatched(corrected_golds, chain.from_iterable(questions.values()))
    refuse_shared(
        config,
        {
            entry: [question.text for question in questions[entry.name]]
            for entry in evaluation.benchmarks
        },
    )
    inputs = {"generator": load.fingerprint(evaluation.generator)}
    if evaluation.verifier:
        inputs["verifier"] = load.fingerprint(evaluation.verifier)
    if evaluation.corrections:
        path = corrections.path_of(evaluation.corrections)
        inputs["corrections"] = manifest.fingerprint(path)
    # A benchmark may be called `generator`.
    inputs |= {f"questions.{name}": work.fingerprint(each) for name, each in questions.items()}
    models = {"generator": evaluation.generator, "verifier": evaluation.verifier}
    load.refuse_different_tokenizers({f"evaluation.{n}": s for n, s in models.items() if s})
    named = {"evaluation.generator": evaluation.generator}
    load.refuse_other_prompts("evaluation.prompt_template", evaluation.prompt_template, named)
    work.refuse_candidates(config.run, _folders(folder, names))
    decisive = {"num_candidates", "temperatures", "top_p", "max_new_tokens", "questions_per_part"}
    decisive |= {"prompt_template"} if evaluation.prompt_template else set()
    labels = {
        name: made_from(
            evaluation.model_dump(mode="json", include=decisive),
            {"generator": inputs["generator"], "questions": inputs[f"questions.{name}"]},
            seed=config.run.seed,
            execution=config.execution,
        )
        for name in names
    }
    finished = is_finished(config, inputs, looks_only=looks_only)
    parts: list[tuple[str, work.Part]] = []
    waiting: list[tuple[str, work.Part]] = []
    if not finished:
        for name in names:
            planned = work.parts(
                len(questions[name]), questions_per_part=evaluation.questions_per_part
            )
            parts += [(name, part) for part in planned]
            missing = work.waiting(
                _parts_folder(folder, name), planned, labels[name], looks_only=looks_only
            )
            waiting += [(name, part) for part in missing]
    return _Plan(
        questions=questions,
        num_left_out={name: len(found.left_out) for name, found in read.items()},
        corrections=corrected_golds,
        inputs=inputs,
        made_from=labels,
        parts=parts,
        waiting=waiting,
        finished=finished,
    )


def _parts_folder(folder: Path, name: str) -> Path:
    return folder / "parts" / name


def _folders(folder: Path, names: Sequence[str]) -> list[Path]:
    return [_parts_folder(folder, name) for name in names]


def _draw(
    config: EvaluateConfig,
    plan: _Plan,
    mine: Sequence[tuple[tuple[str, work.Part], Slice]],
    ranks: Ranks,
    device: torch.device,
    cancellation: Cancellation,
) -> None:
    """Make this rank's missing parts; each is committed as soon as it is whole."""
    if not mine:
        return
    evaluation = config.evaluation
    asked = [piece.of(part) for (_, part), piece in mine]
    total = sum(stop - start for start, stop in asked) * (evaluation.num_candidates + 1)
    model, tokenizer = load.load_generator(
        evaluation.generator, device, prompt_template=evaluation.prompt_template
    )
    with (
        Executor.from_config(config.execution) as executor,
        progress_on_main("sampling", ranks, total=total, unit="candidates") as progress,
    ):
        sampler = Sampler(
            model,
            tokenizer,
            executor,
            settings=evaluation,
            seed=config.run.seed,
            name=load.names([evaluation.generator])[0],
            check_cancelled=cancellation.check_cancelled,
        )
        for ((name, part), piece), (start, stop) in zip(mine, asked, strict=True):
            with load.computing_with(evaluation.generator):
                answers = benchmark.answer(
                    sampler,
                    plan.questions[name][start:stop],
                    evaluation,
                    on_written=progress.advance,
                )
            path = piece.path(_parts_folder(config.run.folder, name), part)
            candidates.write(
                path,
                [candidate for entry in answers for candidate in entry.candidates],
                labels={work.MADE_FROM: plan.made_from[name], work.SCORED_WITH: ""},
            )
            if (name, part) == mine[0][0]:
                # In the end one file of a benchmark holds what its parts do.
                num_more = len(plan.waiting) - 1 + len(plan.parts)
                work.require_room(path, num_more * piece.count)


def _scored_with(plan: _Plan) -> str:
    return plan.inputs.get("verifier", "")


def _score(
    config: EvaluateConfig,
    plan: _Plan,
    mine: Sequence[Path],
    ranks: Ranks,
    device: torch.device,
    cancellation: Cancellation,
) -> None:
    """Score this rank's parts and write each again as soon as it is whole."""
    if not mine:
        return
    scorer = None
    if config.evaluation.verifier:
        model, tokenizer = load.load_verifier(config.evaluation.verifier, device)
        scorer = benchmark.scorer_of(
            model, tokenizer, config.evaluation, check_cancelled=cancellation.check_cancelled
        )
    with progress_on_main("scoring", ranks, total=len(mine), unit="parts") as progress:
        for path in mine:
            labels = {**(candidates.labels(path) or {}), work.SCORED_WITH: _scored_with(plan)}
            written = list(candidates.read(path))
            candidates.write(path, benchmark.scored(written, scorer), labels=labels)
            progress.advance()


def _stale(config: EvaluateConfig, plan: _Plan) -> list[Path]:
    """The parts that this config's verifier has not scored, whether they are drawn or not."""
    paths = (
        candidates.part_path(_parts_folder(config.run.folder, name), part.number)
        for name, part in plan.parts
    )
    return [
        path
        for path in paths
        if (candidates.labels(path) or {}).get(work.SCORED_WITH) != _scored_with(plan)
    ]


@dataclass(frozen=True, kw_only=True)
class _Measures:
    """What is measured on one benchmark."""

    summary: dict[str, Any]
    metrics: dict[str, float]
    outcomes: Outcomes


def _measure(config: EvaluateConfig, plan: _Plan, name: str, tracker: Tracker) -> _Measures:
    """Measure the candidates of a benchmark, also by corrected golds; log the table of samples."""
    evaluation = config.evaluation

    def measured(name: str, answers: Sequence[Answers]) -> tuple[BenchmarkResult, dict[str, Any]]:
        result = benchmark.measured(
            name,
            answers,
            num_candidates=evaluation.num_candidates,
            with_scores=bool(evaluation.verifier),
            num_table_rows=config.tracking.num_table_rows,
        )
        seed = config.run.seed
        return result, result.summary(num_bootstrap=evaluation.num_bootstrap, seed=seed)

    path = _candidates_path(config.run.folder, name)
    answers = benchmark.grouped(plan.questions[name], list(candidates.read(path)))
    result, summary = measured(name, answers)
    metrics = result.metrics()
    if num_left_out := plan.num_left_out[name]:
        summary["num_left_out"] = num_left_out
    if again := corrected(answers, plan.corrections):
        result_again, summary_again = measured(f"{name}/corrected", again.answers)
        counts = {"num_changed": again.num_changed, "num_removed": again.num_removed}
        summary["corrected"] = {**counts, **summary_again}
        metrics |= result_again.metrics()
    tracker.table(
        f"eval/{name}/samples", benchmark.TABLE_COLUMNS, result.table_rows, step=0, tokens=0
    )
    return _Measures(summary=summary, metrics=metrics, outcomes=result.outcomes)


def _candidates_path(folder: Path, name: str) -> Path:
    return folder / f"candidates_{name}.parquet"


def _commit(
    config: EvaluateConfig, plan: _Plan, tracker: Tracker, started: float
) -> dict[str, Any]:
    folder, evaluation = config.run.folder, config.evaluation
    outputs = [folder / EVALUATION]
    summaries: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    measured: dict[str, pairs.Measured] = {}
    for name, questions in plan.questions.items():
        candidates_path = _candidates_path(folder, name)
        questions_path = folder / f"questions_{name}.parquet"
        candidates.merge(candidates.part_paths(_parts_folder(folder, name)), candidates_path)
        candidates.write_questions(questions_path, questions)
        outputs += [candidates_path, questions_path]
        found = _measure(config, plan, name, tracker)
        summaries[name] = found.summary
        metrics |= found.metrics
        measured[name] = pairs.Measured(name=name, questions=questions, outcomes=found.outcomes)
    comparisons = pairs.compared(
        evaluation.benchmarks,
        measured,
        num_bootstrap=evaluation.num_bootstrap,
        seed=config.run.seed,
    )
    for name, comparison in comparisons.items():
        summaries[name][pairs.AGAINST] = comparison
    metrics |= pairs.metrics(comparisons)
    content: dict[str, Any] = {
        "benchmarks": summaries,
        "generator": evaluation.generator,
        "verifier": evaluation.verifier or None,
        "temperatures": list(evaluation.temperatures),
        "seed": config.run.seed,
    }
    files.write_json(folder / EVALUATION, content)
    manifest.commit(
        folder,
        stage="evaluate",
        config=resolved(config),
        inputs=plan.inputs,
        outputs=outputs,
        facts={"seconds": round(time.monotonic() - started, 1)},
    )
    tracker.log(metrics, step=0, tokens=0)
    tracker.summary(metrics)
    return content
