"""All stages of the recipe in order, each in a folder of its own below the recipe's.

    data_generator   prepare   problems -> token shards
    generator        train     -> checkpoints
    candidates       sample    -> executed, labelled candidates
    data_verifier    prepare   candidates -> token shards
    verifier         train     from the generator's weights -> checkpoints
    evaluation       evaluate  -> evaluation.json, scored candidates
    report           report    -> report.json, report.html

A step is one stage on a config file written here, so each can be run again by hand:
`python launch/train.py runs/demo/generator.json`. Stages skip what is finished with the same
config and inputs and resume what was interrupted; so does the recipe.
"""

import logging
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from parallel.ranks import Ranks
from parallel.spawn import run_ranks
from parallel.workers.array import ONLY_TASK, ArrayTask
from training.checkpoint_paths import checkpoint_path, saved_step
from training.config import (
    STAGE_VERBS,
    BenchmarkConfig,
    ConfigError,
    RecipeConfig,
    SourceConfig,
    checked,
    resolved,
)
from training.errors import UserError
from training.files import read_json_object, write_json
from training.lifecycle import run_folder
from training.manifest import Status
from training.stages import readable, same_run
from training.stages.model_size import ModelSize
from training.stages.registry import STAGES
from training.stages.stage import Stage

logger = logging.getLogger(__name__)

SECONDS = "seconds.json"
"""File in the recipe's folder: seconds that each stage has taken, over all attempts."""

_LAUNCH = Path(__file__).parents[2] / "launch"


class StageFailed(RuntimeError):
    """A stage failed; it has printed why itself."""

    def __init__(self, stage: str, code: int) -> None:
        super().__init__(f"stage {stage} ended with exit code {code}")
        self.code = code


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One stage of a recipe with its whole config, as its file holds it."""

    name: str
    verb: str
    config: dict[str, Any]

    def stage(self) -> Stage[Any]:
        """The stage on its checked config.

        Raises:
            ConfigError: the config is wrong.
        """
        stage_class = STAGES[self.verb]
        try:
            return stage_class(checked(stage_class.config_class, self.config))
        except ConfigError as error:
            raise ConfigError(f"stage {self.name}: {error}") from None


def _steps(recipe: RecipeConfig) -> list[Step]:
    """The stages of a recipe up to the report, in order, with their configs.

    What links them is in the recipe's config already (training/config/links.py).
    """
    generator, verifier = resolved(recipe.generator), resolved(recipe.verifier)
    shared = {name: recipe.shared()[name] for name in ("execution", "tracking")}
    sampling = resolved(recipe.sampling)
    sampling["checkpoints"] = [str(path) for path in sampled_checkpoints(recipe)]
    evaluation = resolved(recipe.evaluation)
    configs = {
        "data_generator": generator,
        "generator": generator,
        "candidates": {**shared, "run": _run(recipe, "candidates"), "sampling": sampling},
        "data_verifier": verifier,
        "verifier": verifier,
        "evaluation": {**shared, "run": _run(recipe, "evaluation"), "evaluation": evaluation},
    }
    return [Step(name=name, verb=verb, config=configs[name]) for name, verb in STAGE_VERBS.items()]


def sampled_checkpoints(recipe: RecipeConfig) -> list[Path]:
    """The generator's checkpoints that candidates are drawn from, in the config's order."""
    folder = recipe.stage_folder("generator")
    return [checkpoint_path(folder, int(step)) for step in recipe.sampling.checkpoints]


class RecipeStage(Stage[RecipeConfig]):
    """All stages as one: checked together, described and run in order."""

    verb = "recipe"
    config_class = RecipeConfig
    runs_on_ranks = False

    @property
    def folder(self) -> Path:
        """`run.folder`; the stages' folders are below it."""
        return self.config.run.folder

    def steps(self) -> list[Step]:
        """The stages up to the report, in order."""
        return _steps(self.config)

    def inputs(self) -> Iterator[tuple[str, str]]:
        """None: the recipe itself makes all that its stages read of each other."""
        return iter(())

    def question_sets(self) -> Iterator[SourceConfig | BenchmarkConfig]:
        """All but the verifier's sources, which are the candidates."""
        recipe = self.config
        yield recipe.sampling.questions
        yield from recipe.evaluation.benchmarks
        for training in (recipe.generator, recipe.verifier):
            yield from training.evaluation.benchmarks if training.evaluation.every_steps else ()
        yield from recipe.generator.data.decontaminate
        yield from recipe.generator.data.sources

    def refuse_folder(self) -> None:
        """Refuse a folder that is not a recipe's, and trainings of another config in it."""
        run_folder.refuse_other_recipes(self.folder, STAGE_VERBS)
        for training in (self.config.generator, self.config.verifier):
            same_run.changed_settings(training)

    def problems(self, num_ranks: int) -> Iterator[str]:
        """Configs of stages, sampled checkpoints that are gone, and the layouts."""
        yield from readable.messages(lambda: [step.stage() for step in self.steps()])
        yield from self.lost_checkpoints()
        yield from readable.correction_problems(self.config.evaluation.corrections)
        for name in ("generator", "verifier"):
            training = getattr(self.config, name)
            yield from readable.layout_problems(training, num_ranks, f"{name}: ")

    def lost_checkpoints(self) -> Iterator[str]:
        """Sampled checkpoints that the generator's run is past and does not have.

        Training resumes from its newest checkpoint, so they would never be written.
        """
        folder = self.config.stage_folder("generator")
        newest = saved_step(folder)
        paths = zip(self.config.sampling.checkpoints, sampled_checkpoints(self.config), strict=True)
        for step, path in paths:
            if int(step) < newest and not path.is_dir():
                yield (
                    f"sampling.checkpoints names step {step}, which the training run {folder} no "
                    f"longer has, or never saved: it is at step {newest}. Sample steps that are in "
                    f"{path.parent}, or set another run.folder to train anew"
                )

    @cached_property
    def _statuses(self) -> list[Status]:
        """Of each stage; of those after the first unfinished one without looking at inputs."""
        statuses: list[Status] = []
        for step in self.steps():
            stage, inputs_are_there = step.stage(), all(status.finished for status in statuses)
            statuses.append(stage.status() if inputs_are_there else stage.status_before_inputs())
        return statuses

    def status(self) -> Status:
        """How many stages are finished."""
        finished = [status.finished for status in self._statuses]
        message = f"has finished {sum(finished)} of {len(finished)} stages"
        return Status(message, finished=all(finished))

    def facts(self, num_ranks: int, models: Sequence[ModelSize] | None = None) -> Iterator[str]:
        """Each stage with its command and what it would do, as far as its inputs are there."""
        from training.models.build import shape_of

        models = [
            ModelSize.from_shape(shape_of(training.model), training.model.head)
            for training in (self.config.generator, self.config.verifier)
        ]
        planned = self.steps()
        total = len(planned) + 1
        for number, (step, status) in enumerate(zip(planned, self._statuses, strict=True), 1):
            stage = step.stage()
            ranks = num_ranks if stage.runs_on_ranks else 1
            yield f"[{number}/{total}] {step.name} {status.message}"
            if not status.finished:
                path = self.folder / f"{step.name}.json"
                yield f"  {ranks} x {shlex.join(['python', f'launch/{step.verb}.py', str(path)])}"
                sampled_with = models[:1] if step.verb == "sample" else models
                yield from (f"  {line}" for line in stage.facts(ranks, sampled_with))
        yield f"[{total}/{total}] report writes {self.folder / 'report.html'}"

    def write_configs(self) -> list[Step]:
        """Write every stage's config into the recipe's folder, as `STAGE.json`."""
        planned = self.steps()
        write_json(self.folder / run_folder.CONFIG, resolved(self.config))
        for step in planned:
            write_json(self.folder / f"{step.name}.json", step.config)
        return planned

    def run(self, ranks: Ranks, array_task: ArrayTask = ONLY_TASK) -> None:
        """Run what is not finished, in order, each stage on `num_ranks` processes; then report.

        Raises:
            FileExistsError: the folder holds files that are not a recipe's.
            StageFailed: a stage failed; the later ones were not started.
            KeyboardInterrupt: Ctrl-C; the running stage saved what it had.
        """
        recipe, folder = self.config, self.folder
        for table, links in recipe.links().items():
            logger.info(
                f"{table}: the recipe sets {', '.join(f'{key} = {links[key]}' for key in links)}"
            )
        run_folder.refuse_other_recipes(folder, STAGE_VERBS)
        planned = self.write_configs()
        for number, step in enumerate(planned, start=1):
            logger.info(f"[{number}/{len(planned) + 1}] {step.name}")
            command = [str(_LAUNCH / f"{step.verb}.py"), str(folder / f"{step.name}.json")]
            num_ranks = recipe.num_ranks if STAGES[step.verb].runs_on_ranks else 1
            started = time.monotonic()
            try:
                code = run_ranks(command, num_ranks=num_ranks)
            finally:
                add_seconds(folder / SECONDS, step.name, time.monotonic() - started)
            if code:
                raise StageFailed(step.name, code)
        # Slow to import: it draws.
        from training.report import build_report

        print(f"report: {build_report(folder)}")


def add_seconds(path: Path, stage: str, seconds: float) -> None:
    """Add to a stage's seconds over all the recipe's attempts."""
    try:
        known = read_json_object(path) if path.is_file() else {}
    except UserError:
        known = {}  # damaged: not worth failing the stage that has just ended
    before = known.get(stage)
    known[stage] = round((before if isinstance(before, int | float) else 0.0) + seconds, 1)
    write_json(path, known)


def _run(recipe: RecipeConfig, stage: str) -> dict[str, Any]:
    return resolved(recipe.run) | {
        "folder": str(recipe.stage_folder(stage)),
        "name": f"{recipe.run.name}-{stage}",
    }
