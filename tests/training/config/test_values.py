"""Every value of a config is of its type, within bounds, a text of one line, a usable path."""

import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tests import small
from training.config import (
    BenchmarkConfig,
    ConfigError,
    EvaluateConfig,
    PrepareConfig,
    RecipeConfig,
    SampleConfig,
    SourceConfig,
    TrainConfig,
    load,
    resolved,
)

VERBS = (TrainConfig, PrepareConfig, SampleConfig, EvaluateConfig, RecipeConfig)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(resolved(small.config(tmp_path))))
    return path


def _numbers(kind: type[BaseModel]) -> Iterator[tuple[str, Any, list[Any]]]:
    """(name, type, constraints) of every number in a config class, entries of lists included."""
    for name, field in kind.model_fields.items():
        yield from _of(f"{kind.__name__}.{name}", field.annotation, list(field.metadata))


def _of(name: str, annotation: Any, metadata: list[Any]) -> Iterator[tuple[str, Any, list[Any]]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from _numbers(annotation)
    elif annotation in (int, float):
        yield name, annotation, metadata
    elif get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        flat = [part for entry in more for part in _constraints(entry)]
        yield from _of(name, inner, [*metadata, *flat])
    elif get_origin(annotation) is Literal:
        # A literal number would take `true` for 1.
        assert all(isinstance(value, str) for value in get_args(annotation)), name
    elif get_origin(annotation) in (tuple, types.UnionType):
        for inner in get_args(annotation):
            if inner is not Ellipsis:
                yield from _of(name, inner, [])


def _constraints(entry: Any) -> list[Any]:
    return list(entry.metadata) if isinstance(entry, FieldInfo) else [entry]


def test_every_number_has_two_bounds() -> None:
    found = {name: parts for kind in VERBS for name, _, parts in _numbers(kind)}
    assert len(found) > 60
    for name, parts in found.items():
        low = any(isinstance(part, (annotated_types.Ge, annotated_types.Gt)) for part in parts)
        high = any(isinstance(part, (annotated_types.Le, annotated_types.Lt)) for part in parts)
        # Temperatures are checked by a validator of their own: 0, or a range.
        is_temperature = name.endswith(".temperatures")
        assert (low and high) or is_temperature, name


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("optimizer.learning_rate=true", ["optimizer.learning_rate = true", "valid number"]),
        ("training.max_steps=true", ["training.max_steps = true", "valid integer"]),
        ("parallel.tensor=true", ["parallel.tensor = true", "valid integer"]),
        ("parallel.zero_stage=true", ["parallel.zero_stage = true", "valid integer"]),
        ("parallel.zero_stage=1.0", ["parallel.zero_stage", "valid integer"]),
        ("training.max_steps=3.0", ["training.max_steps = 3.0", "valid integer"]),
        ("data.run_programs=1", ["data.run_programs = 1", "valid boolean"]),
        ('data.run_programs="yes"', ["data.run_programs", "valid boolean"]),
        ('optimizer.learning_rate="1e-3"', ["optimizer.learning_rate", "valid number"]),
        ("run.name=5", ["run.name = 5", "valid string", "'\"5\"'"]),
        ("run.folder=5", ["run.folder = 5", "path"]),
        ("tracking.tags=a", ["tracking.tags", "this is a list"]),
        ("optimizer=3", ["optimizer = 3", "table"]),
        ("optimizer.learning_rate=inf", ["optimizer.learning_rate = inf", "finite"]),
        ("optimizer.learning_rate=nan", ["optimizer.learning_rate = nan", "finite"]),
        ("optimizer.learning_rate=1e-60", ["optimizer.learning_rate"]),
        ("optimizer.eps=inf", ["optimizer.eps", "finite"]),
        ("optimizer.weight_decay=inf", ["optimizer.weight_decay", "finite"]),
        ("optimizer.max_grad_norm=inf", ["optimizer.max_grad_norm", "finite"]),
        ("optimizer.max_grad_norm=1e60", ["optimizer.max_grad_norm"]),
        ("run.watchdog_minutes=nan", ["run.watchdog_minutes", "finite"]),
        (f"training.max_steps={10**30}", ["training.max_steps", str(10**30), str(10**9)]),
        (f"run.seed={10**30}", ["run.seed"]),
        (f"data.sources.0.seed={2**63}", ["data.sources.0.seed"]),
        ("evaluation.temperatures=[0.0]", ["evaluation.temperatures.0", "above 0"]),
        ("evaluation.temperatures=[-0.7]", ["evaluation.temperatures.0", "-0.7"]),
        ("evaluation.temperatures=[inf]", ["evaluation.temperatures.0", "finite"]),
        ("evaluation.temperatures=[nan]", ["evaluation.temperatures.0", "finite"]),
        ("evaluation.temperatures=[true]", ["evaluation.temperatures.0", "valid number"]),
        ("evaluation.temperatures=[1e-50]", ["evaluation.temperatures.0", "1e-06"]),
        ("evaluation.temperatures=[]", ["evaluation.temperatures", "at least 1"]),
        ("evaluation.top_p=nan", ["evaluation.top_p", "finite"]),
        ("evaluation.top_p=0", ["evaluation.top_p"]),
        ("evaluation.top_p=1.1", ["evaluation.top_p"]),
        ("run.folder=", ["run.folder", "empty"]),
        ("run.folder= ", ["run.folder", "empty"]),
        ("data.folder=", ["data.folder", "empty"]),
        ("data.tokenizer.source=", ["data.tokenizer.source", "empty"]),
        ("run.folder=$SCRATCH/run", ["run.folder", "$SCRATCH", "environment variables"]),
        ("run.folder=~no_such_user/run", ["run.folder", "~no_such_user"]),
        ("run.folder=./~no_such_user/run", ["run.folder", "home folder ~no_such_user"]),
        (f"run.folder={'n' * 256}", ["run.folder", "256", "255"]),
        (f"model.initial_weights={'n' * 256}", ["model.initial_weights", "255"]),
        ('run.name="a\\nb"', ["run.name", "line break"]),
        ('run.folder="a\\u0000b"', ["run.folder", "control character"]),
        ('tracking.tags=["a\\tb"]', ["tracking.tags", "control character"]),
        ("tracking.project=\udcff", ["tracking.project", "UTF-8"]),
        ("data.sources.0.split=test", ["data.sources.0", "split = 'test'", "kind = 'problems'"]),
        ("data.sources.0.path=x", ["data.sources.0", "path = 'x'", "kind = 'problems'"]),
        (
            'optimizer={decay="constant", final_learning_rate_fraction=0.1}',
            ["final_learning_rate_fraction = 0.1", "decay = 'constant'"],
        ),
        ("evaluation.generator=runs/g", ["evaluation.generator = 'runs/g'", "leave it out"]),
    ],
)
def test_a_wrong_value_is_named(config: Path, override: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(TrainConfig, [config], [override])
    for part in parts:
        assert part in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "table",
    [
        {"training": {"max_steps": True}},
        {"optimizer": {"learning_rate": True}},
        {"run": {"folder": ""}},
        {"evaluation": {"temperatures": [0]}},
    ],
)
def test_files_are_as_strict_as_the_command_line(
    config: Path, tmp_path: Path, table: dict[str, Any]
) -> None:
    later = tmp_path / "later.json"
    later.write_text(json.dumps(table))
    with pytest.raises(ConfigError):
        load(TrainConfig, [config, later])


def test_an_integer_is_a_float_and_a_list_a_tuple(config: Path) -> None:
    loaded = load(
        TrainConfig, [config], ["optimizer.learning_rate=1", "evaluation.temperatures=[1, 0.5]"]
    )
    assert loaded.optimizer.learning_rate == 1.0
    assert type(loaded.optimizer.learning_rate) is float
    assert loaded.evaluation.temperatures == (1.0, 0.5)


def test_the_home_folder_is_expanded_wherever_a_path_is(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    names = ("run.folder", "data.folder", "model.initial_weights", "data.tokenizer.source")
    loaded = load(TrainConfig, [config], [f"{name}=~/x/{name}" for name in names])
    assert loaded.run.folder == tmp_path / "x" / "run.folder"
    assert loaded.data.folder == tmp_path / "x" / "data.folder"
    assert loaded.model.initial_weights == str(tmp_path / "x" / "model.initial_weights")
    assert loaded.data.tokenizer.source == str(tmp_path / "x" / "data.tokenizer.source")


def test_sampling_may_be_greedy() -> None:
    from training.config import SamplingConfig

    assert SamplingConfig(temperatures=(0.0, 0.7)).temperatures == (0.0, 0.7)
    with pytest.raises(ValueError, match=r"a temperature of -0\.7"):
        SamplingConfig(temperatures=(-0.7,))


def test_what_a_kind_does_not_read_is_refused() -> None:
    for values, part in (
        ({"kind": "gsm8k", "seed": 3}, "seed = 3 with kind = 'gsm8k'"),
        (
            {"kind": "svamp", "difficulty": {"decimals": True}},
            "difficulty = .* with kind = 'svamp'",
        ),
    ):
        with pytest.raises(ValueError, match=part):
            BenchmarkConfig.model_validate({"name": "b", "path": "x", **values})
    with pytest.raises(ValueError, match="seed = 3 with kind = 'parquet'"):
        SourceConfig(kind="parquet", path="x", seed=3)


@pytest.mark.parametrize("run", ["data", "data/run", "other/../data/run"])
def test_a_run_within_its_data_is_refused(config: Path, tmp_path: Path, run: str) -> None:
    with pytest.raises(ConfigError, match="replaces its folder as a whole"):
        load(TrainConfig, [config], [f"run.folder={tmp_path / run}"])
