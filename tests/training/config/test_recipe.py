"""A recipe runs the settings that it was given: honoured, filled in where left out, or refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.ranks import ROOT
from training.config import ConfigError, RecipeConfig, load, resolved
from training.stages.recipe import RecipeStage

DEMO = ROOT / "configs" / "recipe_demo.toml"
RECIPES = sorted((ROOT / "configs").glob("recipe_*.toml"))
SEED_2 = [
    "run.seed=2",
    "run.folder=runs/demo_2",
    "generator.data.sources.0.seed=2",
    "sampling.questions.seed=2000005",
    "evaluation.benchmarks.0.seed=1000013",
    "evaluation.benchmarks.1.seed=1000014",
    "evaluation.benchmarks.2.seed=1000015",
]
"""The README's command for seed 2."""


def demo(*overrides: str) -> RecipeConfig:
    return load(RecipeConfig, [DEMO], overrides)


def by_stage(recipe: RecipeConfig) -> dict[str, Any]:
    return {stage.name: stage.config for stage in RecipeStage(recipe).steps()}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
@pytest.mark.usefixtures("hub_of_bases")
def test_its_config_as_json_is_what_its_stages_run(path: Path, tmp_path: Path) -> None:
    # `recipe_demo_NAME` changes a few settings of `recipe_demo`.
    under = [DEMO] if path.stem.startswith("recipe_demo_") else []
    recipe = load(RecipeConfig, [*under, path])
    said, ran = resolved(recipe), by_stage(recipe)
    for name in ("generator", "verifier"):
        assert said[name] == ran[name] == ran[f"data_{name}"]
    assert said["evaluation"] == ran["evaluation"]["evaluation"]
    for stage in ("candidates", "evaluation"):
        assert said["execution"] == ran[stage]["execution"]
        assert said["run"]["seed"] == ran[stage]["run"]["seed"]
    assert {**said["sampling"], "checkpoints": []} == {
        **ran["candidates"]["sampling"],
        "checkpoints": [],
    }
    saved = tmp_path / "config.json"
    saved.write_text(json.dumps(said))
    assert load(RecipeConfig, [saved]) == recipe


def test_the_stages_of_the_demo_are_linked() -> None:
    ran = by_stage(demo(*SEED_2))
    last = "runs/demo_2/generator/checkpoints/step_3000"
    assert ran["verifier"]["model"]["initial_weights"] == last
    assert ran["verifier"]["evaluation"]["generator"] == last
    assert ran["verifier"]["data"]["tokenizer"]["source"] == f"{last}/huggingface"
    assert [source["path"] for source in ran["verifier"]["data"]["sources"]] == [
        "runs/demo_2/candidates"
    ]
    assert ran["candidates"]["sampling"]["checkpoints"] == [
        "runs/demo_2/generator/checkpoints/step_2000",
        last,
    ]
    assert ran["evaluation"]["evaluation"]["generator"] == last
    assert (
        ran["evaluation"]["evaluation"]["verifier"] == "runs/demo_2/verifier/checkpoints/step_1600"
    )
    assert {stage: config["run"]["seed"] for stage, config in ran.items()} == dict.fromkeys(ran, 2)
    folders = {
        "generator": "generator",
        "data_generator": "generator",
        "candidates": "candidates",
        "verifier": "verifier",
        "data_verifier": "verifier",
        "evaluation": "evaluation",
    }
    for stage, folder in folders.items():
        assert ran[stage]["run"]["folder"] == f"runs/demo_2/{folder}"
        assert ran[stage]["run"]["name"] == f"demo-{folder}"
        assert ran[stage]["tracking"]["group"] == "demo"
    assert ran["data_generator"]["data"]["folder"] == "runs/demo_2/data_generator"
    assert ran["verifier"]["data"]["folder"] == "runs/demo_2/data_verifier"


@pytest.mark.parametrize(
    ("asked", "stage", "key", "value"),
    [
        ("generator.run.seed=77", "generator", "run.seed", 77),
        ("verifier.run.seed=78", "verifier", "run.seed", 78),
        ("generator.run.resume=never", "generator", "run.resume", "never"),
        ("verifier.run.watchdog_minutes=3.5", "verifier", "run.watchdog_minutes", 3.5),
        (
            "generator.execution.timeout_seconds=3.0",
            "generator",
            "execution.timeout_seconds",
            3.0,
        ),
        ("verifier.execution.memory_mib=512", "verifier", "execution.memory_mib", 512),
        ("generator.tracking.mode=disabled", "generator", "tracking.mode", "disabled"),
        ("verifier.tracking.group=mine", "verifier", "tracking.group", "mine"),
        ("execution.timeout_seconds=2.0", "verifier", "execution.timeout_seconds", 2.0),
        ("execution.timeout_seconds=2.0", "candidates", "execution.timeout_seconds", 2.0),
        ("tracking.project=p", "data_generator", "tracking.project", "p"),
        ("run.watchdog_minutes=1.5", "evaluation", "run.watchdog_minutes", 1.5),
        ("tracking.group=g", "generator", "tracking.group", "g"),
        ("tracking.group=g", "evaluation", "tracking.group", "g"),
        ("generator.model.initial_weights=a/b", "generator", "model.initial_weights", "a/b"),
        ("generator.data.tokenizer.source=a/b", "data_generator", "data.tokenizer.source", "a/b"),
    ],
)
def test_a_training_runs_with_the_settings_it_was_given(
    asked: str, stage: str, key: str, value: Any
) -> None:
    recipe = demo(asked)
    found: Any = by_stage(recipe)[stage]
    for part in key.split("."):
        found = found[part]
    assert found == value
    other = {"generator": "verifier", "verifier": "generator"}.get(asked.split(".")[0])
    if other:
        assert by_stage(recipe)[other] == by_stage(demo())[other]


@pytest.mark.parametrize(
    ("asked", "made"),
    [
        ("generator.run.folder=runs/mine", "runs/demo/generator"),
        ("verifier.run.folder=runs/mine", "runs/demo/verifier"),
        ("generator.run.name=mine", "demo-generator"),
        ("verifier.run.name=mine", "demo-verifier"),
        ("generator.data.folder=data/mine", "runs/demo/data_generator"),
        ("verifier.data.folder=data/mine", "runs/demo/data_verifier"),
        ("verifier.data.sources.0.path=runs/mine", "runs/demo/candidates"),
        ("verifier.data.tokenizer.source=a/b", "runs/demo/generator/checkpoints/step_3000/hugg"),
        ("verifier.model.initial_weights=a/b", "runs/demo/generator/checkpoints/step_3000"),
        ("verifier.evaluation.generator=a/b", "runs/demo/generator/checkpoints/step_3000"),
        ("evaluation.generator=a/b", "runs/demo/generator/checkpoints/step_3000"),
        ("evaluation.verifier=a/b", "runs/demo/verifier/checkpoints/step_1600"),
    ],
)
def test_a_link_may_not_be_set_to_anything_else(asked: str, made: str) -> None:
    key, _, value = asked.partition("=")
    with pytest.raises(ConfigError) as caught:
        demo(asked)
    shown = key.replace("sources.0.path", "sources.path")
    assert f"{shown} = {value!r}: the recipe makes it '{made}" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_link_may_be_said_as_it_is() -> None:
    said = ["generator.run.folder=./runs/demo/generator", "evaluation.verifier="]
    assert demo(*said).evaluation == demo().evaluation


def test_a_base_gives_all_but_the_links(tmp_path: Path) -> None:
    base = (ROOT / "configs" / "generator_demo.toml").read_text()
    base = base.replace('name = "generator-demo"', 'name = "generator-demo"\nseed = 5')
    (tmp_path / "generator_demo.toml").write_text(base + "\n[execution]\nmemory_mib = 100\n")
    (tmp_path / "verifier_demo.toml").write_text(
        (ROOT / "configs" / "verifier_demo.toml").read_text()
    )
    (tmp_path / "recipe.toml").write_text(DEMO.read_text())
    recipe = load(RecipeConfig, [tmp_path / "recipe.toml"])
    assert (recipe.generator.run.seed, recipe.verifier.run.seed, recipe.run.seed) == (5, 1, 1)
    assert recipe.generator.execution.memory_mib == 100
    assert recipe.generator.run.name == "demo-generator"


def test_a_mistake_of_the_recipe_is_said_once() -> None:
    for wrong in ("run.seed=x", "execution.memory_mib=true", "tracking.mode=x", "run.folder="):
        with pytest.raises(ConfigError) as caught:
            demo(wrong)
        assert len(str(caught.value).splitlines()) == 1, str(caught.value)
        assert str(caught.value).startswith(wrong.partition("=")[0])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (['sampling.checkpoints=["02000"]'], "holds '02000'"),
        (['sampling.checkpoints=["\u00b2"]'], "holds '\u00b2'"),
        (['sampling.checkpoints=["0"]'], "holds '0'"),
        (['sampling.checkpoints=["3500"]'], "a step of the generator's 3000"),
        (['sampling.checkpoints=["2250"]'], "saved every 500 steps and at 3000"),
        (["sampling.checkpoints=[]"], "sampling.checkpoints is empty"),
        (["sampling.checkpoints=[2000]"], "write it in quotes"),
        (["verifier.model.hidden_size=256"], "verifier.model.hidden_size = 256 with generator"),
        (["verifier.model.rope_theta=5000.0"], "verifier.model.rope_theta = 5000.0"),
        (["evaluation.every_steps=100"], "evaluation.every_steps = 100"),
        (["evaluation.benchmarks=[]"], "evaluation.benchmarks is empty"),
        (["generator.config=x.toml"], "generator.config: unknown key"),
        (
            ["generator.checkpoint.keep_latest=1", "generator.checkpoint.keep_steps=[3000]"],
            "step 2000 of sampling.checkpoints could be removed",
        ),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        demo(*overrides)
    assert message in str(caught.value)


def test_a_retention_spares_the_sampled_steps() -> None:
    assert demo().generator.checkpoint.keep_steps == ()
    training = by_stage(demo("generator.checkpoint.keep_latest=1"))["generator"]["checkpoint"]
    assert training["keep_steps"] == [2000, 3000]
    more = demo(
        "generator.checkpoint.keep_latest=1", "generator.checkpoint.keep_steps=[500,2000,3000]"
    )
    assert more.generator.checkpoint.keep_steps == (500, 2000, 3000)


def test_checkpoints_that_are_gone_are_missed_before_anything_starts(tmp_path: Path) -> None:
    recipe = demo(f"run.folder={tmp_path}")
    assert not list(RecipeStage(recipe).lost_checkpoints())
    saved = tmp_path / "generator" / "checkpoints"
    (saved / "step_1500").mkdir(parents=True)
    assert not list(RecipeStage(recipe).lost_checkpoints())
    (saved / "step_2500").mkdir()
    (line,) = RecipeStage(recipe).lost_checkpoints()
    assert "step 2000" in line and "at step 2500" in line
    (saved / "step_2000").mkdir()
    assert not list(RecipeStage(recipe).lost_checkpoints())


def test_the_verifier_has_the_generators_prompts_and_shape() -> None:
    changed = demo(
        "generator.model.architecture=llama",
        "generator.model.num_key_value_heads=2",
        "generator.data.prompt_template=Q: {question} A:",
    )
    assert changed.verifier.data.prompt_template == "Q: {question} A:"
    model = changed.verifier.model
    assert (model.architecture, model.num_key_value_heads, model.head) == ("llama", 2, "verifier")
    own = demo("verifier.data.prompt_template=Ask: {question}")
    assert own.verifier.data.prompt_template == "Ask: {question}"
