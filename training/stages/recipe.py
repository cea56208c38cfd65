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

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from parallel.spawn import run_ranks
from training.checkpoint_paths import checkpoint_path, saved_step, step_of
from training.config import RecipeConfig, resolved
from training.errors import UserError
from training.files import read_json_object, write_json
from training.lifecycle import run_folder

logger = logging.getLogger(__name__)

SECONDS = "seconds.json"
"""File in the recipe's folder: seconds each stage has taken, over all lives."""

_LAUNCH = Path(__file__).parent.parent.parent / "launch"


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
    """The stages of a recipe up to the report, with their whole configs.

    What links them is in the recipe's config already (training/config/links.py).
    """
    many = recipe.num_ranks
    generator, verifier = resolved(recipe.generator), resolved(recipe.verifier)
    tracking = resolved(recipe.tracking)
    # One W&B group for all stages: the recipe's name, unless one is set.
    tracking["group"] = recipe.tracking.group or recipe.run.name
    shared = {"execution": resolved(recipe.execution), "tracking": tracking}
    sampling = resolved(recipe.sampling)
    sampling["checkpoints"] = [str(path) for path in sampled_checkpoints(recipe)]
    sample = {**shared, "run": _run(recipe, "candidates"), "sampling": sampling}
    evaluation = resolved(recipe.evaluation)
    evaluate = {**shared, "run": _run(recipe, "evaluation"), "evaluation": evaluation}
    return [
        Stage(name="data_generator", verb="prepare", config=generator),
        Stage(name="generator", verb="train", config=generator, num_ranks=many),
        Stage(name="candidates", verb="sample", config=sample, num_ranks=many),
        Stage(name="data_verifier", verb="prepare", config=verifier),
        Stage(name="verifier", verb="train", config=verifier, num_ranks=many),
        Stage(name="evaluation", verb="evaluate", config=evaluate, num_ranks=many),
    ]


def sampled_checkpoints(recipe: RecipeConfig) -> list[Path]:
    """The generator's checkpoints that candidates are drawn from, in the config's order."""
    folder = recipe.stage_folder("generator")
    return [checkpoint_path(folder, int(step)) for step in recipe.sampling.checkpoints]


def lost_checkpoints(recipe: RecipeConfig) -> Iterator[str]:
    """One line for each sampled checkpoint that the generator's run is past and does not have.

    Training resumes from its newest checkpoint, so it would never be written.
    """
    folder, newest = recipe.stage_folder("generator"), saved_step(recipe.stage_folder("generator"))
    for path in sampled_checkpoints(recipe):
        step = step_of(path.name) or 0
        if step < newest and not path.is_dir():
            yield (
                f"sampling.checkpoints names step {step}, which the training run {folder} no "
                f"longer has, or never saved: it is at step {newest}. Sample steps that are in "
                f"{path.parent}, or set another run.folder to train anew"
            )


def run(recipe: RecipeConfig) -> None:
    """Run what is not finished, in order.

    Raises:
        FileExistsError: the folder holds files that are not a recipe's.
        StageFailed: a stage ended badly; the later ones were not started.
        KeyboardInterrupt: Ctrl-C; the running stage saved what it had.
    """
    folder = recipe.run.folder
    for table, links in recipe.links().items():
        logger.info(
            f"{table}: the recipe sets {', '.join(f'{key} = {links[key]}' for key in links)}"
        )
    todo = stages(recipe)
    run_folder.refuse_other_recipes(folder, [stage.name for stage in todo])
    write_json(folder / run_folder.CONFIG, resolved(recipe))
    for number, stage in enumerate(todo, start=1):
        logger.info(f"[{number}/{len(todo) + 1}] {stage.name}")
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
    try:
        known = read_json_object(path) if path.is_file() else {}
    except UserError:
        known = {}  # damaged: not worth the stage that has just ended
    before = known.get(stage)
    known[stage] = round((before if isinstance(before, int | float) else 0.0) + seconds, 1)
    write_json(path, known)


def _run(recipe: RecipeConfig, stage: str) -> dict[str, Any]:
    section: BaseModel = recipe.run
    return resolved(section) | {
        "folder": str(recipe.stage_folder(stage)),
        "name": f"{recipe.run.name}-{stage}",
    }
