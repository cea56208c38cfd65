"""What `--dry-run` prints of a stage: settings, memory, and what would be done.

    lines = dry_run(TrainStage(config), num_ranks=32, files=["my.toml"], overrides=[])

Errors are found first and have the messages of a real run. Nothing is written, fetched, started
or sent; memory is that of parallel/planning.
"""

import json
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from training.stages.stage import Stage

_GPUS_PER_NODE = 8


def dry_run(
    stage: Stage[Any], *, num_ranks: int, files: Sequence[str], overrides: Sequence[str]
) -> list[str]:
    """Lines for people about what a stage would do now.

    Args:
        stage: The stage.
        num_ranks: Processes it would run as.
        files: The config files it was loaded from.
        overrides: The `section.key=value` after them.

    Raises:
        ConfigError, FileNotFoundError, FileExistsError: it could not start.
    """
    stage.check(num_ranks=num_ranks)
    return [
        "settings, with the default where it is another:",
        *(f"  {line}" for line in settings(stage.config)),
        *stage.describe(num_ranks),
        f"as a job: {_job(stage, num_ranks, [*files, *overrides])}",
        "this was --dry-run: nothing was written or started",
    ]


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
        if field.default_factory is not None:
            default = PydanticUndefined  # it follows from other settings
        yield from _setting(prefix + name, getattr(section, name), default)


def _setting(key: str, value: Any, default: Any) -> Iterator[str]:
    if isinstance(value, BaseModel):
        usual = default if isinstance(default, type(value)) else None
        yield from settings(value, usual, f"{key}.")
    elif isinstance(value, tuple) and any(isinstance(entry, BaseModel) for entry in value):
        for number, entry in enumerate(value):
            yield from _setting(f"{key}.{number}", entry, PydanticUndefined)
    elif value is not None:  # a table that is left out
        other = default is not PydanticUndefined and value != default
        yield f"{key} = {_toml(value)}" + (f"  # default: {_toml(default)}" if other else "")


def _toml(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


def _job(stage: Stage[Any], num_ranks: int, arguments: Sequence[str]) -> str:
    """The line that submits the same run as a job, on nodes of 8 GPUs."""
    if stage.verb == "recipe":
        return shlex.join(["slurm/recipe.sh", *_nodes(num_ranks), *arguments])
    nodes = _nodes(num_ranks) if stage.runs_on_ranks else []
    return shlex.join(["slurm/submit.sh", *nodes, f"slurm/{stage.verb}.sh", *arguments])


def _nodes(num_ranks: int) -> list[str]:
    """Options for as many ranks on nodes of 8 GPUs, all of them or as many on each."""
    per_node = max(n for n in range(1, _GPUS_PER_NODE + 1) if num_ranks % n == 0)
    options = [f"--nodes={num_ranks // per_node}"]
    if per_node < _GPUS_PER_NODE:
        options += [f"--ntasks-per-node={per_node}", f"--gpus-per-node={per_node}"]
    return options
