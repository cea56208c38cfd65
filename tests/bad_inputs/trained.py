"""Command lines that use the trained run of a site, and two ways to damage its files."""

import json
from pathlib import Path
from typing import Any

from tests.bad_inputs.harness import Site
from training.files import write_json

QUESTIONS = {"name": "few", "kind": "problems", "num_questions": 2, "seed": 7}
RESUME = {"training": {"max_steps": 12}}
LOGGED = ("run/metrics.jsonl", "run/alerts.jsonl", "run/run.json", "run/wandb*")
"""What a second attempt may write before it meets a checkpoint that it cannot take."""


def flip(path: Path) -> None:
    """Change the last bit, in the number that a tensor ends with."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def edit(path: Path, **changes: Any) -> None:
    """Set fields of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | changes
    write_json(path, {name: value for name, value in content.items() if value is not None})


def sampling(site: Site, source: Path) -> list[str]:
    tree = {
        "run": {"folder": str(site.folder / "candidates")},
        "sampling": {
            "checkpoints": [str(source)],
            "temperatures": [1.0],
            "num_candidates": 2,
            "questions": QUESTIONS,
            "max_new_tokens": 4,
        },
        "tracking": {"mode": "disabled"},
    }
    return [site.write("sample.json", json.dumps(tree))]


def evaluating(site: Site, source: Path) -> list[str]:
    tree = {
        "run": {"folder": str(site.folder / "evaluation")},
        "evaluation": {
            "generator": str(source),
            "benchmarks": [QUESTIONS],
            "temperatures": [1.0],
            "num_candidates": 2,
            "max_new_tokens": 4,
        },
        "tracking": {"mode": "disabled"},
    }
    return [site.write("evaluate.json", json.dumps(tree))]


def starting(site: Site, source: Path) -> list[str]:
    """A new run that starts from these weights."""
    run = {"folder": str(site.folder / "second"), "name": "second"}
    return [site.config(run=run, model={"initial_weights": str(source)})]
