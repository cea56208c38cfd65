"""Sampling: candidates of several checkpoints on training questions, executed and labelled.

    sample(config, ranks)

What is left in the run folder: `part-00000.parquet` and on (candidates.py), one for each
checkpoint and chunk of questions, and a manifest with counts. A killed stage resumes with
the parts that are missing, on any number of ranks, and the candidates are the same.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from parallel.ranks import Ranks
from parallel.workers.array import ONLY_TASK, ArrayTask
from training import manifest
from training.config import ConfigError, SampleConfig, resolved
from training.data import candidates
from training.data.held_out import refuse_shared
from training.data.matching import GENERATORS_TOKENIZER
from training.evaluation import load, slices, work
from training.evaluation.sampler import Sampler, draws
from training.evaluation.slices import Slice
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
    started_tracker,
    supervised,
)

logger = logging.getLogger(__name__)

RANK_SECONDS = "rank_seconds"
NUM_RANKS = "num_ranks"


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is to be made: the same on all ranks."""

    questions: list[Question]
    names: list[str]
    """What the checkpoints are called."""
    inputs: dict[str, str]
    made_from: str
    parts: list[work.Part]
    waiting: list[work.Part]
    """Those of this array task that no earlier attempt has made."""
    finished: bool
    """Whether the manifest says that all is there."""


def sample(config: SampleConfig, ranks: Ranks, array_task: ArrayTask = ONLY_TASK) -> None:
    """Make this array task's missing candidates; the task that finds all there commits the stage.

    Raises:
        ConfigError: no checkpoint, no question, or a checkpoint that cannot be used.
        FileNotFoundError: a checkpoint or the questions are not there.
        FileExistsError: `run.resume` is `never` and the folder holds candidates, or the folder
            is another run's.
        IsolationError: programs cannot be run in isolation on this machine.
        Stopped: a signal came to one of the ranks; the parts that were whole are saved.
    """
    device = ranks.device()
    ranks.connect(device, timeout_minutes=TIMEOUT_MINUTES)
    plan = ranks.on_main(lambda: _plan(config, array_task=array_task))
    if plan.finished:
        work.log_finished(config.run, ranks)
        return
    used = dict.fromkeys(config.sampling.checkpoints[part.generator] for part in plan.waiting)
    load.check([(source, "language_model") for source in used], ranks)
    # Of several jobs only the one that commits is tracked: they have one W&B run.
    alerts_only = not array_task.is_only
    with supervised(config, ranks, verb="sample", alerts_only=alerts_only) as (
        cancellation,
        tracker,
    ):
        mine = slices.of_rank(plan.waiting, ranks, size=lambda part: part.size)
        with cancellation.independent_work():
            _make_parts(config, plan, mine, ranks, device, cancellation)
        for part, piece in mine:
            piece.join(config.run.folder, part, summed=[RANK_SECONDS])
        ranks.barrier()
        if array_task.is_only:
            ranks.on_main(lambda: _commit(config, plan, tracker))
        else:
            ranks.on_main(lambda: _commit_if_all_there(config, plan, array_task))


def status(config: SampleConfig) -> manifest.Status:
    """What `sample` would do now; nothing is written. Raises as `sample`.

    Checkpoints and questions of the hub would be fetched.
    """
    plan = _plan(config, looks_only=True)
    if plan.finished:
        return manifest.Status("has nothing to do: all candidates are there", True)
    return manifest.Status(f"makes {len(plan.waiting)} of {len(plan.parts)} parts")


def _plan(
    config: SampleConfig, *, array_task: ArrayTask = ONLY_TASK, looks_only: bool = False
) -> _Plan:
    sampling, folder = config.sampling, config.run.folder
    refuse_run_folder(folder, verb="sample")
    if not sampling.checkpoints:
        raise ConfigError("sampling.checkpoints is empty: name checkpoint or model folders")
    questions = read_questions("sampling.questions", sampling.questions).questions
    texts = [question.text for question in questions]
    refuse_shared(config, {entry: texts for entry in (sampling.questions,)})
    names = load.names(sampling.checkpoints)
    inputs = {
        "questions": work.fingerprint(questions),
        **{
            f"checkpoints.{name}": load.fingerprint(source)
            for name, source in zip(names, sampling.checkpoints, strict=True)
        },
    }
    named = {f"sampling.checkpoints.{n}": source for n, source in enumerate(sampling.checkpoints)}
    load.refuse_different_tokenizers(named)
    load.refuse_other_prompts("sampling.prompt_template", sampling.prompt_template, named)
    # What changes no candidate, or only their rounding, makes no part stale.
    unimportant = {"questions", "checkpoints", "micro_batch_candidates"}
    unimportant |= set() if sampling.prompt_template else {"prompt_template"}
    label = made_from(
        sampling.model_dump(mode="json", exclude=unimportant),
        inputs,
        seed=config.run.seed,
        execution=config.execution,
    )
    work.refuse_candidates(config.run, [folder])
    parts = work.parts(
        len(questions),
        questions_per_part=sampling.questions_per_part,
        num_generators=len(names),
    )
    waiting: list[work.Part] = []
    finished = is_finished(config, inputs, looks_only=looks_only)
    if not finished:
        waiting = work.waiting(folder, parts, label, array_task=array_task, looks_only=looks_only)
    return _Plan(
        questions=questions,
        names=names,
        inputs=inputs,
        made_from=label,
        parts=parts,
        waiting=waiting,
        finished=finished,
    )


def _make_parts(
    config: SampleConfig,
    plan: _Plan,
    mine: Sequence[tuple[work.Part, Slice]],
    ranks: Ranks,
    device: torch.device,
    cancellation: Cancellation,
) -> None:
    """Make this rank's missing parts; each is committed as soon as it is whole."""
    sampling = config.sampling
    each = sampling.num_candidates // len(plan.names)
    asked = [piece.of(part) for part, piece in mine]
    total = sum(stop - start for start, stop in asked) * each
    loaded: tuple[int, Sampler] | None = None
    with (
        Executor.from_config(config.execution) as executor,
        progress_on_main("sampling", ranks, total=total, unit="candidates") as progress,
    ):
        for (part, piece), (first, end) in zip(mine, asked, strict=True):
            start = time.monotonic()
            if loaded is None or loaded[0] != part.generator:
                loaded = None  # before the next is loaded: two may not fit
                loaded = (
                    part.generator,
                    _sampler(config, plan, part.generator, executor, device, cancellation),
                )
            with load.computing_with(sampling.checkpoints[part.generator]):
                made = loaded[1].candidates(
                    plan.questions[first:end],
                    draws(sampling.temperatures, each, first_index=part.generator * each),
                    on_written=progress.advance,
                )
            path = piece.path(config.run.folder, part)
            candidates.write(
                path,
                made,
                labels={
                    work.MADE_FROM: plan.made_from,
                    RANK_SECONDS: f"{time.monotonic() - start:.3f}",
                    NUM_RANKS: str(ranks.world_size),
                },
            )
            if part is mine[0][0]:
                work.require_room(path, (len(plan.waiting) - 1) * piece.count)


def _sampler(
    config: SampleConfig,
    plan: _Plan,
    number: int,
    executor: Executor,
    device: torch.device,
    cancellation: Cancellation,
) -> Sampler:
    model, tokenizer = load.load_generator(
        config.sampling.checkpoints[number],
        device,
        prompt_template=config.sampling.prompt_template,
    )
    return Sampler(
        model,
        tokenizer,
        executor,
        settings=config.sampling,
        seed=config.run.seed,
        name=plan.names[number],
        number=number,
        check_cancelled=cancellation.check_cancelled,
    )


def _commit_if_all_there(config: SampleConfig, plan: _Plan, array_task: ArrayTask) -> None:
    missing = work.waiting(config.run.folder, plan.parts, plan.made_from, looks_only=True)
    if missing:
        logger.info(f"{array_task} is done; {len(missing)} of {len(plan.parts)} parts are not yet")
        return
    work.waiting(config.run.folder, plan.parts, plan.made_from)  # leaves these parts only
    with started_tracker(config, verb="sample") as tracker:
        _commit(config, plan, tracker)


def _commit(config: SampleConfig, plan: _Plan, tracker: Tracker) -> None:
    folder = config.run.folder
    paths = candidates.part_paths(folder)
    facts = {"questions": len(plan.questions), **counts(paths)}
    if found := load.tokenizer_of(config.sampling.checkpoints[0]):  # all have the same
        facts[GENERATORS_TOKENIZER] = found.identity()
    manifest.commit(
        folder,
        stage="sample",
        config=resolved(config),
        inputs=plan.inputs,
        outputs=paths,
        facts=facts,
    )
    tracker.summary({f"sample/{name}": v for name, v in facts.items() if not isinstance(v, dict)})
    logger.info(
        f"{facts['candidates']:,} candidates ({facts['distinct']:,} distinct): "
        f"{facts['right']:,} right, {facts['wrong']:,} wrong, {facts['failed']:,} failed; "
        f"{facts['candidates_per_second']:,} a second; in {folder}"
    )


def counts(paths: Iterable[Path]) -> dict[str, Any]:
    """What parts of candidates hold, in all and by checkpoint and temperature."""
    distinct: set[int] = set()
    verdicts: Counter[str] = Counter()
    by_generator: dict[str, dict[str, Counter[str]]] = {}
    num_finished = 0
    seconds = 0.0
    for path in paths:
        labels = candidates.labels(path) or {}
        seconds += float(labels.get(RANK_SECONDS, 0)) / int(labels.get(NUM_RANKS, 1))
        for candidate in candidates.read(path):
            distinct.add(hash((candidate.question_id, candidate.program)))
            verdicts[candidate.verdict] += 1
            temperatures = by_generator.setdefault(candidate.generator, {})
            temperatures.setdefault(f"{candidate.temperature:g}", Counter())[candidate.verdict] += 1
            num_finished += candidate.finished
    total = sum(verdicts.values())
    return {
        "candidates": total,
        "distinct": len(distinct),
        **{name: verdicts[name] for name in ("right", "wrong", "failed")},
        "finished": num_finished,
        "seconds": round(seconds, 1),
        "candidates_per_second": round(total / max(seconds, 1e-9), 1),
        "by_generator": {
            generator: {
                temperature: {name: count[name] for name in ("right", "wrong", "failed")}
                for temperature, count in temperatures.items()
            }
            for generator, temperatures in by_generator.items()
        },
    }
