"""Many ranks: what each does alone stays constant, and 64 of them resume to the bit."""

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from parallel.ranks import Ranks
from tests import small
from tests.ranks import run_distributed
from training.config import TrainConfig
from training.evaluation.sampler import Sampler
from training.records import Candidate
from training.stages.runs.train import train
from training.trainer import Trainer

MANY = 64
TIMEOUT = 900.0
"""Seconds that 64 ranks may take on two cores that others use as well; alone they take 70."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What one rank did in one attempt of a training run."""

    listings: int
    """Of the run's checkpoints, or of a folder in them."""
    sockets: int
    """Open while a checkpoint was written."""
    questions: int
    """Answered by this rank."""


def _attempt(ranks: Ranks, config: TrainConfig) -> Attempt:
    checkpoints = str(config.run.folder / "checkpoints")
    listings: list[str] = []
    sockets: list[int] = []
    questions: list[int] = []

    def listen(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("os.listdir", "os.scandir") and str(arguments[0]).startswith(checkpoints):
            listings.append(str(arguments[0]))

    def save(trainer: Trainer) -> None:
        links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        sockets.append(sum("socket" in os.readlink(link) for link in links if os.path.islink(link)))
        saved(trainer)

    def candidates(sampler: Sampler, asked: Any, *rest: Any, **more: Any) -> list[Candidate]:
        questions.append(len(asked))
        return drawn(sampler, asked, *rest, **more)

    saved = Trainer._save  # pyright: ignore[reportPrivateUsage]
    drawn = Sampler.candidates
    sys.addaudithook(listen)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "_save", save)
        patched.setattr(Sampler, "candidates", candidates)
        train(config, ranks)
    return Attempt(listings=len(listings), sockets=max(sockets), questions=sum(questions))


def _config(folder: Path, num_ranks: int, **parallel: Any) -> TrainConfig:
    """Two steps of one sequence a data-parallel rank, each saved; evaluated after the second."""
    problems = {"kind": "problems", "num_questions": num_ranks + 1}
    return small.config(
        folder,
        model={**small.MODEL, "num_layers": parallel.get("pipeline", 1)},
        data={"sources": [{"kind": "problems", "num_examples": 600}]},
        parallel={"zero_stage": 1, **parallel},
        training={
            "max_steps": 2,
            "global_batch_sequences": num_ranks,
            "micro_batch_sequences": 1,
        },
        optimizer={"warmup_steps": 1},
        checkpoint={"every_steps": 1},
        evaluation={
            "every_steps": 2,
            "benchmarks": [{"name": "problems", **problems}],
            "num_candidates": 1,
            "temperatures": [0.7],
            "max_new_tokens": 4,
        },
    )


def _lines(folder: Path) -> list[dict[str, Any]]:
    """What the metrics file says of the model, without what depends on the time."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    names = ("step", "train/loss", "train/grad_norm", "train/tokens")
    return [
        {name: x for name, x in line.items() if name in names or name.startswith("eval/")}
        for line in lines
    ]


def _state(folder: Path) -> dict[str, bytes]:
    """The files of weights and moments of the last checkpoint."""
    step = folder / "checkpoints" / "step_2"
    paths = [path for path in step.rglob("*") if path.suffix in (".pt", ".safetensors")]
    return {str(path.relative_to(step)): path.read_bytes() for path in paths}


def _train_and_resume(folder: Path, num_ranks: int, **parallel: Any) -> list[list[Attempt]]:
    """One run, and another that has only its first checkpoint: they must end alike."""
    whole = _config(folder, num_ranks, **parallel)
    small.prepare_data(whole)
    first = run_distributed(_attempt, num_ranks, whole, timeout=TIMEOUT)
    lines, state = _lines(whole.run.folder), _state(whole.run.folder)
    assert any("eval/problems/pass_at_1" in line for line in lines) and len(state) > 10
    shutil.rmtree(whole.run.folder / "checkpoints" / "step_2")
    (whole.run.folder / "manifest.json").unlink()
    second = run_distributed(_attempt, num_ranks, whole, timeout=TIMEOUT)
    assert _lines(whole.run.folder) == lines
    assert _state(whole.run.folder) == state
    return [first, second]


def test_one_rank_lists_the_checkpoints_and_all_evaluate(tmp_path: Path) -> None:
    for attempts in _train_and_resume(tmp_path, 3):
        assert [attempt.listings > 0 for attempt in attempts] == [True, False, False]
        assert [attempt.questions for attempt in attempts] == [2, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_ranks", "parallel"),
    [(MANY, {}), (16, {"tensor": 2, "pipeline": 2})],
    ids=["data", "tensor and pipeline"],
)
def test_many_ranks_train_evaluate_save_and_resume(
    tmp_path: Path, num_ranks: int, parallel: dict[str, Any]
) -> None:
    for attempts in _train_and_resume(tmp_path, num_ranks, **parallel):
        assert not any(attempt.listings for attempt in attempts[1:])
        assert all(attempt.questions for attempt in attempts)
        if not parallel:  # over gloo two groups of all ranks, since DeepSpeed has one of its own
            assert max(attempt.sockets for attempt in attempts[1:]) < 2 * MANY + 16
            assert attempts[0].sockets < 3 * MANY + 16  # it serves the store
