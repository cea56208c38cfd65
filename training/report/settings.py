"""A recipe's settings as text, from the resolved config in its run folder."""

from collections.abc import Mapping
from typing import Any

from training.config import STAGE_VERBS, ModelConfig
from training.report.collect import Run
from training.report.formatting import count, duration, number

Tree = Mapping[str, Any]
_TRAININGS = ("generator", "verifier")
_STAGE_LABELS = {
    "data_generator": "preparing",
    "generator": "training the generator",
    "candidates": "sampling",
    "data_verifier": "preparing the verifier's data",
    "verifier": "training the verifier",
    "evaluation": "evaluating",
}


def num_parameters(model: Tree) -> int | None:
    """Parameters of a model with its head; None when its settings describe none."""
    from training.models.build import parameter_sizes  # torch takes seconds to import

    try:
        config = ModelConfig.model_validate(model)
    except ValueError:
        return None
    return sum(size.numel() for size in parameter_sizes(config).values())


def seconds_by_stage(run: Run) -> dict[str, float]:
    """Time of each stage: the recipe's record, else its manifest's, else the sum of its steps."""
    seconds: dict[str, float] = {curve.name: curve.seconds for curve in run.curves}
    for stage in run.manifests:
        stated = run.facts(stage).get("seconds")
        if isinstance(stated, (int, float)):
            seconds[stage] = float(stated)
    seconds |= run.seconds
    return {stage: seconds[stage] for stage in STAGE_VERBS if seconds.get(stage)}


def setting_rows(run: Run, seconds: Mapping[str, float]) -> list[tuple[str, str]]:
    """(what, how) for the page's list of settings; parts that are not there are left out."""
    rows: list[tuple[str, str]] = []
    config = run.config
    for name in _TRAININGS:
        part = config.get(name)
        # A config names every stage; only those that ran are listed.
        ran = name in run.manifests or any(curve.name == name for curve in run.curves)
        if isinstance(part, Mapping) and ran:
            rows += _training_rows(name.capitalize(), part, run)
    sampling = config.get("sampling")
    if isinstance(sampling, Mapping):
        rows.append(("Candidates for the verifier", _sampling(sampling)))
    evaluation = config.get("evaluation")
    if isinstance(evaluation, Mapping):
        rows.append(("Evaluation", _evaluation(evaluation)))
    ranks, seed = config.get("num_ranks"), (config.get("run") or {}).get("seed")
    if ranks is not None:
        rows.append(("Processes", f"{ranks} per stage"))
    if seed is not None:
        rows.append(("Seed", _seeds(config, seed)))
    if seconds:
        parts = [f"{_STAGE_LABELS[stage]} {duration(spent)}" for stage, spent in seconds.items()]
        rows.append(("Time", f"{', '.join(parts)}; {duration(sum(seconds.values()))} in all"))
    code = code_version(run)
    if code:
        rows.append(("Code", ", ".join(f"{name} {version}" for name, version in code.items())))
    return rows


def _seeds(config: Tree, seed: Any) -> str:
    """The recipe's seed, and those of trainings that have another."""
    own = {name: ((config.get(name) or {}).get("run") or {}).get("seed") for name in _TRAININGS}
    others = [f"the {name}'s {found}" for name, found in own.items() if found not in (None, seed)]
    return "; ".join([str(seed), *others])


def code_version(run: Run) -> dict[str, str]:
    """The code that made the newest finished stage."""
    for manifest in reversed(list(run.manifests.values())):
        code = manifest.get("code")
        if isinstance(code, Mapping):
            return {
                str(name): str(version)[:12] if name == "git" else str(version)
                for name, version in code.items()
            }
    return {}


def _training_rows(name: str, config: Tree, run: Run) -> list[tuple[str, str]]:
    model = config.get("model") or {}
    parameters = num_parameters(model)
    shape = f"{model.get('num_layers')} layers of width {model.get('hidden_size')}"
    text = f"{count(parameters)} parameters: {shape}, " if parameters else f"{shape}, "
    text += f"{model.get('num_heads')} heads, vocabulary {count(model.get('vocab_size') or 0)}"
    if name == "Verifier":
        text += "; one scalar head; starts from the generator's weights"
    elif model.get("initial_weights"):
        text += f"; starts from {model['initial_weights']}"
    rows = [(name, text), (f"{name}'s training", _training(config))]
    curve = next((curve for curve in run.curves if curve.name == name.lower()), None)
    if curve is not None:
        done = f"{curve.num_steps:,} steps"
        if curve.counts_tokens:
            done += f", {count(curve.tokens[-1])} tokens"
        if curve.tokens_per_second:
            done += f", {count(round(curve.tokens_per_second))} tokens per second (median)"
        rows.append((f"{name}'s run", f"{done}; last loss {curve.losses[-1]:.4g}"))
    if name == "Generator":
        sources = (config.get("data") or {}).get("sources") or ()
        rows.append((f"{name}'s data", "; ".join(_source(source) for source in sources)))
    return rows


def _training(config: Tree) -> str:
    training, optimizer = config.get("training") or {}, config.get("optimizer") or {}
    parallel, data = config.get("parallel") or {}, config.get("data") or {}
    text = (
        f"up to {training.get('max_steps')} steps of {training.get('global_batch_sequences')} "
        f"sequences of {data.get('sequence_length')} tokens, {training.get('precision')}; AdamW, "
        f"learning rate {optimizer.get('learning_rate')}, {optimizer.get('warmup_steps')} steps of "
        f"warm-up, {optimizer.get('decay')} decay"
    )
    return text + f"; ZeRO stage {parallel.get('zero_stage')}" if parallel else text


def _source(source: Tree) -> str:
    kind, num_examples = source.get("kind"), source.get("num_examples")
    amount = (
        f"{num_examples:,} examples"
        if isinstance(num_examples, int) and num_examples
        else "all examples"
    )
    if kind == "problems":
        misread = source.get("misread_fraction")
        misreading = (
            f"; programs misread {100 * misread:g} % of the misleading facts" if misread else ""
        )
        return f"{amount} of the built-in problem writer, {_difficulty(source)}{misreading}"
    return f"{amount} of {source.get('path')} ({kind}, {source.get('split')})"


def _difficulty(source: Tree) -> str:
    difficulty = source.get("difficulty") or {}
    operations = _span(difficulty, "operations")
    return f"{operations} operations, {_span(difficulty, 'distractors')} irrelevant facts"


def _span(difficulty: Tree, name: str) -> str:
    low, high = difficulty.get(f"min_{name}"), difficulty.get(f"max_{name}")
    return f"{low}" if low == high else f"{low}\u2013{high}"


def _sampling(sampling: Tree) -> str:
    steps = ", ".join(str(step) for step in sampling.get("checkpoints") or ())
    text = f"{sampling.get('num_candidates')} a question, {_temperatures(sampling)}"
    return text + (f", from the generator at step {steps}" if steps else "")


def _evaluation(evaluation: Tree) -> str:
    names = ", ".join(str(entry.get("name")) for entry in evaluation.get("benchmarks") or ())
    return (
        f"{evaluation.get('num_candidates')} candidates a question, "
        f"{_temperatures(evaluation)}, on {names or 'no benchmark'}"
    )


def _temperatures(part: Tree) -> str:
    values = [number(float(value)) for value in part.get("temperatures") or ()]
    return f"temperature{'s' * (len(values) != 1)} {' and '.join(values)}"
