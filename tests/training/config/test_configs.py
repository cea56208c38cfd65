"""Configs: every shipped file parses, every mistake is named with what to set."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.bases import BASES
from training.config import ConfigError, RecipeConfig, TrainConfig, load, resolved
from training.errors import DataError

CONFIGS = Path(__file__).parents[3] / "configs"

MINIMAL = """
[run]
folder = "runs/x"
[data]
folder = "data/x"
[[data.sources]]
kind = "problems"
num_examples = 10
"""


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    path = tmp_path / "minimal.toml"
    path.write_text(MINIMAL)
    return path


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.toml")), ids=lambda path: path.stem)
@pytest.mark.usefixtures("hub_of_bases")
def test_every_shipped_config_parses(path: Path) -> None:
    kind = RecipeConfig if path.stem.startswith("recipe") else TrainConfig
    # `recipe_demo_NAME` changes a few settings of `recipe_demo`, a base those of one config.
    under = [CONFIGS / "recipe_demo.toml"] if path.stem.startswith("recipe_demo_") else []
    under = [CONFIGS / "generator_pretrained.toml"] if path.parent.name == "bases" else under
    load(kind, [*under, path])


@pytest.mark.usefixtures("hub_of_bases")
def test_a_base_has_its_own_shape_tokenizer_and_folders() -> None:
    pretrained, bases = CONFIGS / "generator_pretrained.toml", CONFIGS / "bases"
    paths = [path for path in bases.glob("*.toml") if path.stem != "one_small_card"]
    configs = [load(TrainConfig, [pretrained, path]) for path in paths]
    assert {config.model.initial_weights for config in configs} == set(BASES)
    assert len({config.run.folder for config in configs}) == len(configs)
    for config in configs:
        expected = BASES[config.model.initial_weights]
        assert config.model.architecture == expected["model_type"]
        assert config.model.hidden_size == expected["hidden_size"]
        assert config.model.num_key_value_heads == expected["num_key_value_heads"]
        assert config.data.tokenizer.source == config.model.initial_weights


def test_without_the_hub_a_base_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "/nowhere")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"hf download HuggingFaceTB/SmolLM2-360M.*HF_HOME"):
        load(TrainConfig, [CONFIGS / "generator_pretrained.toml"])


def test_the_named_configs_are_shipped() -> None:
    shapes = ("demo", "125m", "350m", "1b3")
    names = {f"{head}_{shape}" for head in ("generator", "verifier") for shape in shapes}
    names |= {"recipe_demo", "recipe_gsm8k_small", "recipe_paper"}
    assert names <= {path.stem for path in CONFIGS.glob("*.toml")}


def test_later_files_and_overrides_win(minimal: Path, tmp_path: Path) -> None:
    later = tmp_path / "later.toml"
    later.write_text(
        "[training]\nmax_steps = 7\nmicro_batch_sequences = 3\n[optimizer]\nwarmup_steps=1"
    )
    config = load(
        TrainConfig,
        [minimal, later],
        [
            "training.max_steps=9",
            "data.sources.0.num_examples=4",
            "run.name=a b",
            "data.sequence_length=64",
        ],
    )
    assert (config.training.max_steps, config.training.micro_batch_sequences) == (9, 3)
    assert config.data.sources[0].num_examples == 4
    assert config.run.name == "a b"


def test_resolved_config_loads_again_as_itself(minimal: Path, tmp_path: Path) -> None:
    import json

    config = load(TrainConfig, [minimal])
    path = tmp_path / "resolved.json"
    path.write_text(json.dumps(resolved(config)))
    assert load(TrainConfig, [path]) == config


def test_config_is_frozen(minimal: Path) -> None:
    config = load(TrainConfig, [minimal])
    with pytest.raises(ValidationError):
        config.training.max_steps = 3  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("training.max_step=3", ["training.max_step", "did you mean training.max_steps?"]),
        ("trainin.max_steps=3", ["trainin", "did you mean training?"]),
        ("max_steps=3", ["did you mean training.max_steps?"]),
        ("training.max_steps=0", ["training.max_steps", "0", "1"]),
        ("training.max_steps=many", ["training.max_steps", "many"]),
        ("model.num_heads=7", ["2048", "num_heads = 7", "divisor"]),
        ("parallel.tensor=3", ["parallel.tensor = 3", "num_heads = 32", "8192", "51200"]),
        ("parallel.pipeline=5", ["parallel.pipeline = 5", "num_layers = 24"]),
        ("parallel.sequence_parallel=true", ["sequence_parallel = true", "tensor = 1"]),
        ("parallel.zero_stage=4", ["parallel.zero_stage", "4"]),
        ("training.precision=fp8", ["training.precision", "fp8", "bf16"]),
        ("data.sequence_length=4096", ["4096", "model.max_tokens", "2048"]),
        ("model.head=verifier", ["verifier", "candidates"]),
        ("data.sources=[]", ["data.sources"]),
        ("data.sources.5.kind=jsonl", ["data.sources has 1 entries", "5"]),
        ("nonsense", ["nonsense", "section.key=value"]),
        ("run.folder.x=1", ["run.folder is a value"]),
        ("evaluation.num_candidates=3", ["num_candidates = 3", "2 temperatures", "multiple of 2"]),
        ("optimizer.warmup_steps=1000", ["optimizer.warmup_steps = 1000", "max_steps = 1000"]),
    ],
)
def test_mistakes_are_named(minimal: Path, override: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(TrainConfig, [minimal], [override])
    for part in parts:
        assert part in str(caught.value)


def test_pipeline_with_zero_two_names_zero_one(minimal: Path) -> None:
    with pytest.raises(ConfigError, match="zero_stage = 1"):
        load(TrainConfig, [minimal], ["parallel.pipeline=2", "parallel.zero_stage=2"])


def test_compiled_blocks_with_zero_three_name_zero_two(minimal: Path) -> None:
    with pytest.raises(ConfigError, match="zero_stage = 2"):
        load(TrainConfig, [minimal], ["training.compile=true", "parallel.zero_stage=3"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.precision=fp32"], "training.precision = 'fp32'"),
        (["parallel.zero_stage=0"], "zero_stage = 0"),
        (["parallel.zero_stage=3"], "zero_stage = 3"),
        (["parallel.pipeline=2"], "pipeline = 2"),
        (["parallel.offload_optimizer=true", "parallel.zero_stage=2"], "offload_optimizer = true"),
    ],
)
def test_sums_in_bf16_name_what_excludes_them(
    minimal: Path, overrides: list[str], message: str
) -> None:
    asked = ["training.precision=bf16", "parallel.reduce_dtype=bf16"]
    load(TrainConfig, [minimal], asked)
    with pytest.raises(ConfigError, match=message) as error:
        load(TrainConfig, [minimal], [*asked, *overrides])
    assert "reduce_dtype = 'fp32'" in str(error.value)


def test_missing_and_broken_files(minimal: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"minimall.toml does not exist; did you mean .*minimal"):
        load(TrainConfig, [tmp_path / "minimall.toml"])
    broken = tmp_path / "broken.toml"
    broken.write_text("[run\n")
    with pytest.raises(ConfigError, match="broken.toml cannot be read"):
        load(TrainConfig, [broken])
    with pytest.raises(ConfigError, match="data: missing"):
        load(TrainConfig, [], ["run.folder=x"])


def test_recipe_names_checkpoints_that_are_never_written() -> None:
    with pytest.raises(ConfigError, match="step 7, but the generator is saved every"):
        load(RecipeConfig, [CONFIGS / "recipe_demo.toml"], ['sampling.checkpoints=["7"]'])


def test_config_needs_no_torch() -> None:
    code = "import sys, training.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_verifier_never_learns_from_a_test_set() -> None:
    with pytest.raises(ConfigError, match="split = 'test'.*set split = 'train'"):
        load(RecipeConfig, [CONFIGS / "recipe_gsm8k_small.toml"], ["sampling.questions.split=test"])


def test_svamp_is_a_test_set_whatever_its_split() -> None:
    path = CONFIGS / "recipe_gsm8k_small.toml"
    svamp = "{name = 'svamp', kind = 'svamp', path = 'ChilleD/SVAMP'"
    for split, message in (("}", "SVAMP is a test set"), (", split = 'train'}", "is one test set")):
        with pytest.raises(ConfigError, match=message):
            load(RecipeConfig, [path], [f"sampling.questions={svamp}{split}"])
        with pytest.raises(ConfigError, match="leave split out"):
            load(RecipeConfig, [path], [f"evaluation.benchmarks=[{svamp}, split = 'train'}}]"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sampling.questions.path=data", "path = 'data' with kind = 'problems', which does not"),
        ("sampling.questions.split=train", "split = 'train' with kind = 'problems'"),
        ("generator.data.sources.0.split=test", "split = 'test' with kind = 'problems'"),
        ("verifier.data.sources.0.split=test", "split = 'test' with kind = 'candidates'"),
        ("verifier.data.sources.0.seed=2", "seed = 2 with kind = 'candidates'"),
        (
            "verifier.data.train_on_prompt=true",
            "train_on_prompt = True with sources of kind 'candidates'",
        ),
        ("verifier.data.run_programs=false", "run_programs = False with sources of kind"),
        ("verifier.data.min_question_characters=9", "min_question_characters = 9 with sources"),
        (
            "verifier.data.near_duplicate_similarity=0",
            "near_duplicate_similarity = 0.0 with",
        ),
        ("generator.data.near_duplicate_similarity=0.4", "set 0.5 or more, or 0"),
        (
            "generator.data.decontaminate_similarity=0.1",
            "decontaminate_similarity = 0.1",
        ),
        (
            "evaluation.benchmarks.0={name='it', kind='svamp', path='x', seed=4}",
            "seed = 4 with kind = 'svamp'",
        ),
    ],
)
def test_settings_that_a_kind_does_not_use_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(RecipeConfig, [CONFIGS / "recipe_demo.toml"], [override])


def test_evaluated_problems_have_a_seed_of_their_own() -> None:
    with pytest.raises(ConfigError, match="has seed 1, which training uses"):
        load(RecipeConfig, [CONFIGS / "recipe_demo.toml"], ["evaluation.benchmarks.0.seed=1"])


@pytest.mark.parametrize(
    ("key", "kept", "refused", "message"),
    [
        ("training.micro_batch_sequences", ["auto", 3], ["most", 0, 2.5, True], "nor 'auto'"),
        ("model.activation_checkpointing", ["auto", True], ["yes", 0], "true, false and 'auto'"),
    ],
)
def test_auto_is_the_only_word_in_place_of_a_number(
    minimal: Path, key: str, kept: list[Any], refused: list[Any], message: str
) -> None:
    section, name = key.split(".")
    for value in kept:
        config = load(TrainConfig, [minimal], [f"{key}={json.dumps(value)}"])
        assert getattr(getattr(config, section), name) == value
    for value in refused:
        with pytest.raises(ConfigError, match=f"^{key}: {value!r} is .*{message}$"):
            load(TrainConfig, [minimal], [f"{key}={json.dumps(value)}"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["parallel.zero_stage=1"], "zero_stage = 1: only ZeRO-2"),
        (["parallel.zero_stage=2", "training.precision=fp32"], "precision = 'fp32': set"),
    ],
)
def test_an_offloaded_optimizer_needs_zero_2_and_bf16(
    minimal: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(TrainConfig, [minimal], ["parallel.offload_optimizer=true", *overrides])


def test_benchmarks_of_any_evaluation_have_names_of_their_own() -> None:
    entry = "{name = 'it', kind = 'gsm1k'}"
    for verb, path in ((TrainConfig, "generator_demo"), (RecipeConfig, "recipe_demo")):
        with pytest.raises(ConfigError, match="has the name 'it' twice, in it, it"):
            load(verb, [CONFIGS / f"{path}.toml"], [f"evaluation.benchmarks=[{entry}, {entry}]"])


def test_corrections_are_not_for_evaluations_in_training() -> None:
    settings = ["evaluation.corrections=shipped", "evaluation.every_steps=10"]
    with pytest.raises(ConfigError, match="corrections = 'shipped' with every_steps = 10"):
        load(TrainConfig, [CONFIGS / "generator_demo.toml"], settings)
    load(RecipeConfig, [CONFIGS / "recipe_demo.toml"], settings[:1])
