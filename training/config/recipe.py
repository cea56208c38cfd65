"""The config of a whole recipe: both trainings, and what is sampled and evaluated."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import Field, ValidationInfo, field_validator, model_validator
from typing_extensions import Self

from training.checkpoint_paths import step_number
from training.config import links
from training.config.evaluation import EvaluationConfig, SamplingConfig
from training.config.model_json import SHAPE
from training.config.run import ExecutionConfig, RunConfig, TrackingConfig
from training.config.values import MOST_WORKERS, Section
from training.config.verbs import TrainConfig, check_evaluates_once

STAGE_VERBS: Mapping[str, str] = {
    "data_generator": "prepare",
    "generator": "train",
    "candidates": "sample",
    "data_verifier": "prepare",
    "verifier": "train",
    "evaluation": "evaluate",
}
"""The stages of a recipe in order, by name, with the verb of each; each has a folder of its
name below the recipe's."""


class RecipeConfig(Section):
    """`launch/recipe.py`: all stages in order, in one folder.

    `generator` and `verifier` are whole training configs. In the file each may start from
    another file by `config = "generator_demo.toml"` (relative to the recipe's file) and
    override any of its keys. `run`, `execution` and `tracking` hold for every stage, unless the
    table of a training sets its own value. The recipe sets what links the stages: run folders
    and names, `data.folder`, what the verifier starts from and learns from, and what is
    evaluated. Leave these out: any other value is an error (training/config/links.py).
    """

    run: RunConfig
    """Folder and name of the recipe; seed, resume and watchdog hold for all stages."""
    num_ranks: int = Field(default=1, ge=1, le=MOST_WORKERS)
    """Ranks of each stage that trains, samples or evaluates, on this machine."""
    # These first: fields are validated in order, and the trainings inherit from these.
    execution: ExecutionConfig = ExecutionConfig()
    """Limits of a program that a model wrote; holds for all stages."""
    tracking: TrackingConfig = TrackingConfig()
    """Weights & Biases; holds for all stages."""
    sampling: SamplingConfig
    """The candidates that the verifier learns from."""
    generator: TrainConfig
    """The whole training config of the generator; it may start from a file: `config = FILE`."""
    verifier: TrainConfig
    """The whole training config of the verifier; it may start from a file: `config = FILE`."""
    evaluation: EvaluationConfig
    """The evaluation of the pair."""

    @field_validator("generator", "verifier", mode="before")
    @classmethod
    def _takes_from_the_recipe(cls, table: Any, info: ValidationInfo) -> Any:
        if not isinstance(table, dict):
            return table
        table = cast("dict[str, Any]", table)
        name = str(info.field_name)
        for section, settings in _shared(info.data).items():
            own = table.get(section, {})
            if isinstance(own, dict):
                table = {**table, section: {**settings, **own}}
        if name == "generator":
            table = _keeping_sampled(table, info.data)
        else:
            table = _like_the_generator(table, info.data)
        return links.filled(table, _links(name, info.data))

    @field_validator("evaluation", mode="before")
    @classmethod
    def _is_of_the_pair(cls, table: Any, info: ValidationInfo) -> Any:
        if not isinstance(table, dict):
            return table
        return links.filled(cast("dict[str, Any]", table), _links("evaluation", info.data))

    @model_validator(mode="after")
    def _links_hold(self) -> Self:
        problems = [
            f"{table}.{link} = {value!r}: the recipe makes it {made!r}; leave it out"
            for table, links_of_table in self.links().items()
            for link, value, made in links.differing(
                getattr(self, table).model_dump(mode="json"), links_of_table
            )
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @model_validator(mode="after")
    def _sampled_checkpoints_are_written(self) -> Self:
        every, last = self.generator.checkpoint.every_steps, self.generator.training.max_steps
        for step in self.sampling.checkpoints:
            if not (number := step_number(step)) or number > last:
                raise ValueError(
                    f"sampling.checkpoints holds {step!r}: in a recipe it is a step of the "
                    f"generator's {last}"
                )
            if number % every and number != last:
                raise ValueError(
                    f"sampling.checkpoints holds step {step}, but the generator is saved every "
                    f"{every} steps and at {last}: change one of them"
                )
        if not self.sampling.checkpoints:
            raise ValueError("sampling.checkpoints is empty: name steps of the generator")
        return self

    @model_validator(mode="after")
    def _sampled_checkpoints_are_kept(self) -> Self:
        kept = self.generator.checkpoint
        pruned = [step for step in self.sampling.checkpoints if int(step) not in kept.keep_steps]
        if kept.keep_latest and pruned:
            raise ValueError(
                f"generator.checkpoint.keep_steps = {list(kept.keep_steps)} with "
                f"keep_latest = {kept.keep_latest}: step {pruned[0]} of "
                "sampling.checkpoints could be removed before it is sampled; add it, or leave "
                "keep_steps out"
            )
        return self

    @model_validator(mode="after")
    def _evaluated_problems_are_unseen(self) -> Self:
        seeds = {
            source.seed for source in self.generator.data.sources if source.kind == "problems"
        } | (
            {self.sampling.questions.seed} if self.sampling.questions.kind == "problems" else set()
        )
        for benchmark in self.evaluation.benchmarks:
            if benchmark.kind == "problems" and benchmark.seed in seeds:
                raise ValueError(
                    f"evaluation.benchmarks {benchmark.name!r} has seed {benchmark.seed}, which "
                    "training uses as well: its questions would have been seen; set another seed"
                )
        return self

    @model_validator(mode="after")
    def _heads_are_as_named(self) -> Self:
        for name, config in (("generator", self.generator), ("verifier", self.verifier)):
            wanted = "verifier" if name == "verifier" else "language_model"
            if config.model.head != wanted:
                raise ValueError(
                    f"{name}.model.head = {config.model.head!r}: it must be {wanted!r}"
                )
        return self

    @model_validator(mode="after")
    def _verifier_takes_the_generators_weights(self) -> Self:
        ours, theirs = self.verifier.model, self.generator.model
        for name in SHAPE:
            if getattr(ours, name) != getattr(theirs, name):
                raise ValueError(
                    f"verifier.model.{name} = {getattr(ours, name)} with generator.model.{name} = "
                    f"{getattr(theirs, name)}: the verifier starts from the generator's weights; "
                    "set both alike"
                )
        return self

    @model_validator(mode="after")
    def _there_is_something_to_evaluate(self) -> Self:
        check_evaluates_once(self.evaluation)
        return self

    def stage_folder(self, stage: str) -> Path:
        """Where the stage of this name keeps its files."""
        return self.run.folder / stage

    def shared(self) -> dict[str, dict[str, Any]]:
        """The settings that hold for each stage, by section: run, execution and tracking."""
        return _shared({"run": self.run, "execution": self.execution, "tracking": self.tracking})

    def links(self) -> dict[str, dict[str, str]]:
        """By table, the settings that the recipe itself makes, and what it makes them."""
        made = {"run": self.run, "generator": self.generator, "verifier": self.verifier}
        return {table: _links(table, made) for table in links.LINKS}


def _like_the_generator(table: dict[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The verifier's table; shape and prompts that it leaves out are as the generator sets them."""
    generator = known.get("generator")
    if generator is None:
        return table
    taken = {"model": {*SHAPE, "max_tokens"}, "data": {"prompt_template"}}
    for section, names in taken.items():
        own, theirs = table.get(section, {}), getattr(generator, section)
        if isinstance(own, dict):
            given = theirs.model_dump(mode="json", include=names & theirs.model_fields_set)
            table = {**table, section: given | cast("dict[str, Any]", own)}
    return table


def _shared(known: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The recipe's settings that hold for each of its stages, by section.

    Of a recipe that is wrong itself, and so will be refused, only a part is known.
    """
    run = known.get("run")
    shared = {
        name: known[name].model_dump(mode="json", exclude={"folder", "name"})
        for name in ("run", "execution", "tracking")
        if name in known
    }
    # One W&B group for all stages: the recipe's name, unless one is set.
    if run is not None and "tracking" in shared:
        shared["tracking"]["group"] = known["tracking"].group or run.name
    return shared


def _links(table: str, known: Mapping[str, Any]) -> dict[str, str]:
    """A table's links; placeholders where the recipe is wrong itself, which has its own message."""
    run = known.get("run", RunConfig(folder=Path("recipe")))
    trainings = ("generator", "verifier")
    steps = {name: known[name].training.max_steps if name in known else 1 for name in trainings}
    return links.wanted(table, folder=run.folder, name=run.name, steps=steps)


def _keeping_sampled(table: dict[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The generator's table, in which a retention spares the steps that will be sampled."""
    kept = table.get("checkpoint")
    sampling: SamplingConfig | None = known.get("sampling")
    if sampling is None or not isinstance(kept, dict):
        return table
    kept = cast("dict[str, Any]", kept)
    if not kept.get("keep_latest") or "keep_steps" in kept:
        return table
    steps = [number for step in sampling.checkpoints if (number := step_number(step))]
    return {**table, "checkpoint": {**kept, "keep_steps": steps}}
