"""What tests of the sample and the evaluate stage share: models and questions on disk."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parallel.ranks import Ranks, discover
from tests.training.evaluation import models
from training.files import write_json

NUM_QUESTIONS = 7


@contextmanager
def one_rank() -> Generator[Ranks, None, None]:
    """This process as the only rank, its environment put back afterwards."""
    before = dict(os.environ)
    ranks = discover()
    try:
        yield ranks
    finally:
        ranks.disconnect()
        os.environ.clear()
        os.environ.update(before)


def write_inputs(folder: Path, num_questions: int = NUM_QUESTIONS) -> None:
    """Two checkpoints, a verifier and questions."""
    models.write_generator(folder / "step_1", seed=1)
    models.write_generator(folder / "step_2", seed=2)
    models.write_verifier(folder / "verifier")
    models.write_gsm8k(folder / "gsm8k", num_questions)


def sample_tree(inputs: Path, folder: Path, **sampling: Any) -> dict[str, Any]:
    """A SampleConfig: 4 candidates x 7 questions in parts of 2."""
    return {
        "run": {"folder": str(folder), "name": "toy-candidates"},
        "sampling": {
            "checkpoints": [str(inputs / "step_1"), str(inputs / "step_2")],
            "temperatures": [0.7, 1.0],
            "num_candidates": 4,
            "questions": {
                "name": "toy",
                "kind": "gsm8k",
                "path": str(inputs / "gsm8k"),
                "split": "train",
            },
            "max_new_tokens": 8,
            "micro_batch_candidates": 5,
            "questions_per_part": 2,
            **sampling,
        },
        "tracking": {"mode": "disabled"},
    }


def evaluate_tree(inputs: Path, folder: Path, **evaluation: Any) -> dict[str, Any]:
    """An EvaluateConfig: the second checkpoint with the verifier on two cuts of the questions."""
    gsm8k = {"kind": "gsm8k", "path": str(inputs / "gsm8k")}
    return {
        "run": {"folder": str(folder), "name": "toy-evaluation"},
        "evaluation": {
            "generator": str(inputs / "step_2"),
            "verifier": str(inputs / "verifier"),
            "benchmarks": [
                {"name": "toy", **gsm8k},
                {"name": "rest", **gsm8k, "skip_questions": 5},
            ],
            "num_candidates": 4,
            "temperatures": [0.7, 1.0],
            "max_new_tokens": 8,
            "micro_batch_candidates": 5,
            "questions_per_part": 2,
            "num_bootstrap": 100,
            **evaluation,
        },
        "tracking": {"mode": "disabled"},
    }


def written(folder: Path, tree: dict[str, Any]) -> str:
    """The config as a file, for the command line."""
    path = folder / "config.json"
    write_json(path, tree)
    return str(path)
