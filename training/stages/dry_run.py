"""What `--dry-run` tells of a verb with a config: settings, memory, and what would be done.

    lines = preview("train", config, num_ranks=32, files=["my.toml"], overrides=[])

What is wrong is found first, by stages/check.py and by the stage's own checks, with a real run's
messages. Nothing is written, fetched, started or sent; memory is that of parallel/planning.
"""

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from parallel.layout import Layout, accumulation_steps_of
from training import manifest
from training.config import (
    BenchmarkConfig,
    ConfigError,
    EvaluateConfig,
    EvaluationConfig,
    PrepareConfig,
    RecipeConfig,
    SampleConfig,
    SamplingConfig,
    TrainConfig,
    checked,
    load,
)
from training.data import benchmarks, hub, prepared
from training.lifecycle.attempts import saved_step
from training.manifest import Standing
from training.stages.check import KINDS, check, checked_stages

_REPOSITORY = Path(__file__).parent.parent.parent
_TRAIN_SCRIPTS = {
    "language_model": ("slurm/train_1b3.sh", "configs/generator_1b3.toml"),
    "verifier": ("slurm/train_verifier_1b3.sh", "configs/verifier_1b3.toml"),
}
"""By head: the job script, and the config that it merges all others over."""
_GPUS_PER_NODE = 8


def preview(
    verb: str,
    config: Any,
    *,
    num_ranks: int,
    files: Sequence[str],
    overrides: Sequence[str],
) -> list[str]:
    """Lines for people about what a verb would do with a config now.

    Args:
        verb: One of `KINDS`.
        config: Its config.
        num_ranks: Processes it would run as.
        files: The config files it was loaded from.
        overrides: The `section.key=value` after them.

    Raises:
        ConfigError, FileNotFoundError, FileExistsError: it could not start.
    """
    notes = check(verb, config, num_ranks=num_ranks)
    lines = ["settings, with the default where it is another:", *_indented(settings(config))]
    if isinstance(config, RecipeConfig):
        lines += [*_recipe(config, num_ranks)]
        job = _line("slurm/recipe.sh", *_nodes(num_ranks), *files, *overrides)
    else:
        lines += [f"{verb} {_standing(verb, config).words}", *notes]
        lines += _indented(_facts(verb, config, num_ranks, _saved_models(verb, config)))
        job = _job(verb, config, num_ranks, files, overrides)
    return [*lines, f"as a job: {job}", "this was --dry-run: nothing was written or started"]


def settings(section: BaseModel, usual: BaseModel | None = None, prefix: str = "") -> Iterator[str]:
    """Every setting in use as an override would set it, and its default where that is another.

    Args:
        section: A config, or a section of one.
        usual: What the section is by default; None: what its class says.
        prefix: The section's own key with a dot.
    """
    for name, field in type(section).model_fields.items():
        if name == "difficulty" and getattr(section, "kind", "problems") != "problems":
            continue  # the built-in problems' alone
        default = field.get_default() if usual is None else getattr(usual, name)
        yield from _setting(prefix + name, getattr(section, name), default)


def _setting(key: str, value: Any, default: Any) -> Iterator[str]:
    if isinstance(value, BaseModel):
        usual = default if isinstance(default, type(value)) else None
        yield from settings(value, usual, f"{key}.")
    elif isinstance(value, tuple) and any(isinstance(entry, BaseModel) for entry in value):
        for number, entry in enumerate(value):
            yield from _setting(f"{key}.{number}", entry, PydanticUndefined)
    else:
        other = default is not PydanticUndefined and value != default
        yield f"{key} = {_toml(value)}" + (f"  # default: {_toml(default)}" if other else "")


def _toml(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def _line(*words: str) -> str:
    return shlex.join(words)


# --- What a stage would do.


def _standing(verb: str, config: Any) -> Standing:
    """What a stage would do, as far as files on this machine tell."""
    # The libraries behind these take seconds to import, and most verbs need one of them.
    if verb == "prepare":
        from training.data import prepare

        return prepare.standing(PrepareConfig(data=config.data, execution=config.execution))
    if verb == "train":
        from training.stages import train

        return train.standing(config)
    if remote := [*_of_the_hub(config)]:
        return Standing(f"reads {', '.join(remote)} from the hub; what is made is not compared")
    if verb == "sample":
        from training.stages import sample

        return sample.standing(config)
    from training.stages import evaluate

    return evaluate.standing(config)


def _of_the_hub(config: SampleConfig | EvaluateConfig) -> Iterator[str]:
    """Models and questions that only the hub has."""
    if isinstance(config, SampleConfig):
        models, asked = config.sampling.checkpoints, (config.sampling.questions,)
    else:
        section = config.evaluation
        models, asked = (section.generator, section.verifier), section.benchmarks
    for source in models:
        if source and hub.local_path(source, "a model") is None:
            yield source
    for benchmark in asked:
        if benchmark.kind != "problems" and not benchmarks.files_of(benchmark):
            yield benchmark.path


def _facts(verb: str, config: Any, num_ranks: int, models: "Sequence[_Model]") -> Iterator[str]:
    """The numbers of a stage: work, layout, memory."""
    if verb == "prepare":
        for source in config.data.sources:
            count = f"the first {source.num_examples:,}" if source.num_examples else "all"
            yield f"source: {source.kind} {source.path or f'of seed {source.seed}'}, {count}"
    elif verb == "train":
        yield from _training(config, num_ranks)
    elif verb == "sample":
        num_generators = len(config.sampling.checkpoints)
        yield from _drawing(config.sampling, (config.sampling.questions,), num_generators, 0)
        yield _replica(config.sampling, models)
    else:
        yield from _drawing(config.evaluation, config.evaluation.benchmarks, 1, 1)
        yield _replica(config.evaluation, models)


def _training(config: TrainConfig, num_ranks: int) -> Iterator[str]:
    layout, training = Layout.from_config(config, num_ranks), config.training
    count = accumulation_steps_of(config, layout)
    tokens = training.global_batch_sequences * config.data.sequence_length
    yield (
        f"{num_ranks:,} ranks: {layout}; {count} micro-batch{'es' * (count > 1)} of "
        f"{training.micro_batch_sequences} rows in a step of each data share"
    )
    yield (
        f"a step: {training.global_batch_sequences:,} rows of {config.data.sequence_length:,} "
        "tokens, "
        f"{tokens:,} in all; {training.max_steps:,} steps: {tokens * training.max_steps:,}"
    )
    if prepared.compare(PrepareConfig(data=config.data, execution=config.execution)).is_current:
        rows = manifest.read(config.data.folder)["facts"]["rows"]
        epochs = training.global_batch_sequences * training.max_steps / rows
        yield f"data: {rows:,} rows in {config.data.folder}: {epochs:.2f} epochs"
    yield _planned_memory(config, layout)


def _planned_memory(config: TrainConfig, layout: Layout) -> str:
    """The plan's memory of the fullest rank."""
    from parallel.planning.plan import make_plan
    from parallel.planning.table import in_units

    plan = make_plan(config, layout, rank=0)
    fullest = max(plan.stages, key=lambda stage: stage.total_bytes)
    parts = {
        "weights": fullest.weights_bytes + fullest.gathered_bytes,
        "gradients": fullest.gradients_bytes,
        "optimizer state": fullest.optimizer_bytes,
        "activations": fullest.activations_bytes,
        "pipeline": fullest.pipeline_bytes,
        "buckets": max(fullest.bucket_bytes, fullest.flattened_bytes),
    }
    listed = ", ".join(f"{name} {in_units(size)}" for name, size in parts.items() if size)
    where = f" of pipeline stage {fullest.stage}" if len(plan.stages) > 1 else ""
    return (
        f"memory: {in_units(fullest.total_bytes)} at most on each "
        f"{'GPU' if plan.on_gpu else 'CPU'} rank{where} ({listed}); {plan.parameters:,} parameters"
    )


def _drawing(
    section: SamplingConfig | EvaluationConfig,
    asked: Sequence[BenchmarkConfig],
    num_generators: int,
    num_greedy: int,
) -> Iterator[str]:
    """How many candidates, in how many parts."""
    for benchmark in asked:
        count = benchmark.num_questions
        if benchmark.kind == "problems" or benchmarks.files_of(benchmark):
            count = len(benchmarks.questions(benchmark))
        each = section.num_candidates + num_greedy
        if count:
            parts = -(-count // section.questions_per_part) * num_generators
            yield (
                f"{benchmark.name}: {count:,} questions x {each} = {count * each:,} candidates "
                f"in {parts:,} parts"
            )
        else:
            yield f"{benchmark.name}: all questions of {benchmark.path} x {each} candidates"


# --- What sampling and evaluating hold in memory.


@dataclass(frozen=True, kw_only=True, slots=True)
class _Model:
    """A whole model as every sampling or scoring rank holds it."""

    name: str
    num_parameters: int
    width: int
    """Numbers of a token's keys, or values, in all layers."""

    @classmethod
    def of(cls, name: str, kind: str, shape: Any) -> "_Model":
        """Count a model of a `PhiShape`."""
        import torch

        from training.models.heads import LanguageModel, Verifier

        with torch.device("meta"):
            model: torch.nn.Module = (Verifier if kind == "verifier" else LanguageModel)(shape)
        count = sum(parameter.numel() for parameter in model.parameters())
        return cls(name=name, num_parameters=count, width=shape.num_layers * shape.hidden_size)


def _saved_models(verb: str, config: Any) -> list[_Model]:
    """The models on disk that a stage samples with or scores by; the hub's are left out.

    Raises:
        ConfigError, FileNotFoundError: one of them is no model, or of the wrong kind.
    """
    if verb == "sample":
        sources = [(source, "language_model") for source in config.sampling.checkpoints]
    elif verb == "evaluate":
        section = config.evaluation
        sources = [(section.generator, "language_model"), (section.verifier, "verifier")]
    else:
        return []
    from training.evaluation.load import shape_of

    return [
        _Model.of(source, kind, shape_of(source, kind))  # pyright: ignore[reportArgumentType]
        for source, kind in sources
        if source and hub.local_path(source, "a model") is not None
    ]


def _replica(section: SamplingConfig | EvaluationConfig, models: Sequence[_Model]) -> str:
    """Memory of a rank: never more than one model, and the keys and values it writes."""
    if not models:
        return "memory: known once the hub has given the model"
    from parallel.planning.table import in_units

    largest = max(models, key=lambda model: model.num_parameters)
    sequences, tokens = section.micro_batch_candidates, section.max_new_tokens
    # Of bf16, as on GPUs.
    weights, cache = 2 * largest.num_parameters, 2 * 2 * largest.width * sequences * tokens
    return (
        f"memory: {in_units(weights + cache)} on each GPU rank: {largest.num_parameters:,} weights "
        f"{in_units(weights)}, keys and values of {sequences:,} x {tokens:,} new tokens "
        f"{in_units(cache)}; twice that on a CPU; prompts come on top"
    )


# --- The recipe.


def _recipe(recipe: RecipeConfig, num_ranks: int) -> Iterator[str]:
    """Each stage with its command and what it would do, as far as what it reads is there."""
    from training.models.build import shape_of

    planned = checked_stages(recipe)
    made = [
        _Model.of(name, config.model.head, shape_of(config.model))
        for name, config in (("generator", recipe.generator), ("verifier", recipe.verifier))
    ]
    ready = True
    for number, stage in enumerate(planned, start=1):
        config: Any = checked(KINDS[stage.verb], stage.config)
        ranks = 1 if stage.verb == "prepare" else num_ranks
        standing = _standing(stage.verb, config) if ready else _waiting(stage.verb, config)
        ready = ready and standing.finished
        yield f"[{number}/{len(planned) + 1}] {stage.name} {standing.words}"
        if not standing.finished:
            path = recipe.run.folder / f"{stage.name}.json"
            yield f"  {ranks} x {_line('python', f'launch/{stage.verb}.py', str(path))}"
            models = made[:1] if stage.verb == "sample" else made
            yield from _indented(_facts(stage.verb, config, ranks, models))
    yield (
        f"[{len(planned) + 1}/{len(planned) + 1}] report writes {recipe.run.folder / 'report.html'}"
    )


def _waiting(verb: str, config: Any) -> Standing:
    """Of a stage that reads what an earlier one has yet to make."""
    step = saved_step(config.run.folder) if verb == "train" else 0
    return Standing(f"runs after it{f', from step {step:,}' if step else ''}")


# --- The same as a job.


def _job(
    verb: str, config: Any, num_ranks: int, files: Sequence[str], overrides: Sequence[str]
) -> str:
    """The line that submits the same run, or why there is none."""
    if verb == "prepare":
        return _line("slurm/submit.sh", "slurm/prepare.sh", *files, *overrides)
    script, base = f"slurm/{verb}.sh", ""
    if verb == "train":
        script, base = _TRAIN_SCRIPTS[config.model.head]
        files = [file for file in files if Path(file).resolve() != _REPOSITORY / base]
        if changed := _changed(config, [str(_REPOSITORY / base), *files], overrides):
            return (
                f"{script} merges its configs over {base}, which would change "
                f"{', '.join(changed)}: write these into a config of yours"
            )
    return _line("slurm/submit.sh", *_nodes(num_ranks), script, *files, *overrides)


def _nodes(num_ranks: int) -> list[str]:
    """Options for as many ranks on nodes of 8 GPUs, all of them or as many on each."""
    per_node = max(n for n in range(1, _GPUS_PER_NODE + 1) if num_ranks % n == 0)
    options = [f"--nodes={num_ranks // per_node}"]
    if per_node < _GPUS_PER_NODE:
        options += [f"--ntasks-per-node={per_node}", f"--gpus-per-node={per_node}"]
    return options


def _changed(config: TrainConfig, files: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The settings that would be others if the config were loaded from these files."""
    try:
        other = load(TrainConfig, files, overrides)
    except ConfigError as error:
        return [str(error)]
    before, now = (dict(line.split(" = ", 1) for line in settings(c)) for c in (config, other))
    return [key for key in {**before, **now} if before.get(key) != now.get(key)]
