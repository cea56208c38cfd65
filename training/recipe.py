"""All stages of the recipe in order, each in a folder of its own below the recipe's.

    data_generator   prepare   problems -> token shards
    generator        train     -> checkpoints
    candidates       sample    -> executed, labelled candidates
    data_verifier    prepare   candidates -> token shards
    verifier         train     from the generator's weights -> checkpoints
    evaluation       evaluate  -> evaluation.json, scored candidates
    report           report    -> report.json, report.html

A stage is one verb run on a config file written here, so each can be run again by hand:
`python launch/train.py runs/demo/generator.json`. Verbs skip what is finished with the
same config and inputs and go on with what was cut short; so does the recipe.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from parallel.spawn import run_ranks
from training.config import RecipeConfig, resolved
from training.files import read_json, write_json

SECONDS = "seconds.json"
"""File in the recipe's folder: seconds each stage has taken, over all lives."""

_LAUNCH = Path(__file__).parent.parent / "launch"


class StageFailed(RuntimeError):
    """A stage ended badly; it has said why itself."""

    def __init__(self, stage: str, code: int) -> None:
        super().__init__(f"stage {stage} ended with exit code {code}")
        self.code = code


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One verb on one config."""

    name: str
    verb: str
    config: dict[str, Any]
    num_ranks: int = 1


def stages(recipe: RecipeConfig) -> list[Stage]:
    """The stages of a recipe up to the report, with their whole configs."""
    many = recipe.num_ranks
    generator, verifier = resolved(recipe.generator), resolved(recipe.verifier)
    links = {"execution": recipe.execution, "tracking": recipe.tracking}
    shared = {name: resolved(section) for name, section in links.items()}
    # One W&B group for all stages: the recipe's name, unless one is set.
    shared["tracking"]["group"] = recipe.tracking.group or recipe.run.name
    checkpoints = recipe.stage_folder("generator") / "checkpoints"
    last_generator = checkpoints / f"step_{recipe.generator.training.max_steps}"
    last_verifier = (
        recipe.stage_folder("verifier")
        / "checkpoints"
        / f"step_{recipe.verifier.training.max_steps}"
    )

    generator |= {**shared, "run": _run(recipe, "generator")}
    generator["data"]["folder"] = str(recipe.stage_folder("data_generator"))
    verifier |= {**shared, "run": _run(recipe, "verifier")}
    verifier["data"]["folder"] = str(recipe.stage_folder("data_verifier"))
    verifier["model"]["initial_weights"] = str(last_generator)
    verifier["evaluation"]["generator"] = str(last_generator)
    verifier["data"]["tokenizer"]["source"] = str(last_generator / "huggingface")
    for source in verifier["data"]["sources"]:
        source["path"] = str(recipe.stage_folder("candidates"))
    sampling = resolved(recipe.sampling)
    sampling["checkpoints"] = [
        str(checkpoints / f"step_{step}") for step in recipe.sampling.checkpoints
    ]
    evaluation = resolved(recipe.evaluation) | {
        "generator": str(last_generator),
        "verifier": str(last_verifier),
    }
    sample = {**shared, "run": _run(recipe, "candidates"), "sampling": sampling}
    evaluate = {**shared, "run": _run(recipe, "evaluation"), "evaluation": evaluation}
    return [
        Stage(name="data_generator", verb="prepare", config=generator),
        Stage(name="generator", verb="train", config=generator, num_ranks=many),
        Stage(name="candidates", verb="sample", config=sample, num_ranks=many),
        Stage(name="data_verifier", verb="prepare", config=verifier),
        Stage(name="verifier", verb="train", config=verifier, num_ranks=many),
        Stage(name="evaluation", verb="evaluate", config=evaluate, num_ranks=many),
    ]


def run(recipe: RecipeConfig) -> None:
    """Run what is not finished, in order.

    Raises:
        StageFailed: a stage ended badly; the later ones were not started.
        KeyboardInterrupt: Ctrl-C; the running stage saved what it had.
    """
    folder = recipe.run.folder
    write_json(folder / "config.json", resolved(recipe))
    todo = stages(recipe)
    for number, stage in enumerate(todo, start=1):
        print(f"\n[{number}/{len(todo) + 1}] {stage.name}", flush=True)
        path = folder / f"{stage.name}.json"
        write_json(path, stage.config)
        command = [str(_LAUNCH / f"{stage.verb}.py"), str(path)]
        started = time.monotonic()
        try:
            code = run_ranks(command, num_ranks=stage.num_ranks)
        finally:
            _add_seconds(folder / SECONDS, stage.name, time.monotonic() - started)
        if code:
            raise StageFailed(stage.name, code)


def _add_seconds(path: Path, stage: str, seconds: float) -> None:
    """Count a stage's seconds over all the recipe's lives."""
    known: dict[str, float] = read_json(path) if path.is_file() else {}
    known[stage] = round(known.get(stage, 0.0) + seconds, 1)
    write_json(path, known)


def _run(recipe: RecipeConfig, stage: str) -> dict[str, Any]:
    section: BaseModel = recipe.run
    return resolved(section) | {
        "folder": str(recipe.stage_folder(stage)),
        "name": f"{recipe.run.name}-{stage}",
    }
