"""`--dry-run` of every verb prints what a real run would do, and does nothing."""

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import small
from tests.launch.test_recipe import TOY
from tests.ranks import ROOT, run_ranks
from training.config import ConfigError, RecipeConfig, TrainConfig, load, resolved
from training.errors import CheckpointError
from training.files import write_json

DryRun = Callable[..., str]
# Of tests/small.py's model: embedding and head, two blocks, the last LayerNorm.
PARAMETERS = 2 * 512 * 32 + 512 + 2 * (4 * 32 * 33 + 2 * 32 * 64 + 96 + 64) + 64
CONFIG_VERBS = ("prepare", "train", "sample", "evaluate", "recipe")


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything below a folder, with its size and when it was changed."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
    }


@pytest.fixture
def dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> DryRun:
    """What a verb's dry run prints, in a folder that it must leave as it is."""
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)

    def call(verb: str, *words: object) -> str:
        before = tree(tmp_path)
        main = importlib.import_module(f"launch.{verb}").main
        capsys.readouterr()
        assert main([*map(str, words), "--dry-run"]) == 0
        assert tree(tmp_path) == before
        return capsys.readouterr().out

    return call


def written(folder: Path, config: TrainConfig) -> Path:
    write_json(folder / "config.json", resolved(config))
    return folder / "config.json"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a training run of 4 of its 10 steps, by 1 rank."""
    folder = tmp_path_factory.mktemp("trained")
    config = small.prepared(folder, training={"max_steps": 4}, checkpoint={"every_steps": 4})
    run_ranks(1, ["launch/train.py", str(written(folder, config))])
    return folder


def test_the_settings_are_overrides_that_give_the_same_config(
    dry_run: DryRun, tmp_path: Path
) -> None:
    path = written(tmp_path, small.config(tmp_path, data={"prepare_if_missing": True}))
    out = dry_run("train", path, "optimizer.learning_rate=0.003")
    lines = out.splitlines()
    assert "  optimizer.learning_rate = 0.003  # default: 0.0001" in lines
    assert "  optimizer.beta1 = 0.9" in lines
    assert '  data.sources.0.kind = "problems"' in lines
    plain = [line[2:].split("  # default")[0] for line in lines if line.startswith("  ")]
    overrides = [line.replace(" = ", "=", 1) for line in plain if " = " in line]
    again = load(TrainConfig, [path], overrides)
    assert again == load(TrainConfig, [path], ["optimizer.learning_rate=0.003"])


def test_train_prints_layout_work_and_memory(dry_run: DryRun, tmp_path: Path) -> None:
    path = written(tmp_path, small.config(tmp_path, data={"prepare_if_missing": True}))
    out = dry_run("train", path, "parallel.tensor=2", "--ranks", 4)
    assert "train prepares its data, then starts, from random weights" in out
    assert "4 ranks: tensor 2 x pipeline 1 x data 2, ZeRO-1; 1 micro-batch of 4 sequences" in out
    assert "a step: 8 sequences of 256 tokens, 2,048 in all; 10 steps: 20,480" in out
    from parallel.layout import Layout
    from parallel.planning.plan import make_plan
    from parallel.planning.table import in_units

    config = load(TrainConfig, [path], ["parallel.tensor=2"])
    plan = make_plan(config, Layout.from_config(config, 4), rank=0)
    assert f"memory: {in_units(plan.mine.total_bytes)} at most on each CPU rank" in out
    assert "ranks: tensor 1 x pipeline 1 x data 1" in dry_run("train", path)


def test_train_prints_what_auto_becomes_on_usual_cards(dry_run: DryRun, tmp_path: Path) -> None:
    config = small.config(
        tmp_path,
        data={"prepare_if_missing": True},
        training={"micro_batch_sequences": "auto", "device": "auto"},
    )
    path = written(tmp_path, config)
    out = dry_run("train", path, "--ranks", 2)
    assert "2 ranks: tensor 1 x pipeline 1 x data 2, ZeRO-1\n" in out
    for card in (24, 80, 141):
        assert f"on {card} GB GPUs: training.micro_batch_sequences = auto: 4 sequences" in out
    huge = ["model.hidden_size=16384", "model.num_layers=3", "model.ffn_size=65536"]
    huge += ["model.head_dim=8192"]
    out = dry_run("train", path, *huge)
    assert "on 141 GB GPUs: training.micro_batch_sequences = 'auto': 1 sequence of 256" in out
    assert "on this machine: training" in dry_run("train", path, "training.device=cpu")


def test_train_prints_from_where_it_would_resume(
    dry_run: DryRun, trained: Path, tmp_path: Path
) -> None:
    path, before = trained / "config.json", tree(trained)
    assert "train has nothing to do: all 4 steps are done" in dry_run("train", path)
    out = dry_run("train", path, "training.max_steps=10")
    assert "train resumes from step 4 of 10" in out
    rows = json.loads((trained / "data" / "manifest.json").read_text())["facts"]["sequences"]
    assert f"data: {rows:,} sequences in {trained / 'data'}: {80 / rows:.2f} epochs" in out
    assert "starts, from random weights" in dry_run("train", path, f"run.folder={tmp_path / 'new'}")
    assert tree(trained) == before


@pytest.mark.parametrize(
    ("override", "kind", "message"),
    [
        ("training.global_batch_sequences=6", ConfigError, "is not a multiple of"),
        ("optimizer.learning_rate=0.5", ConfigError, "learning_rate was 0.01, is 0.5"),
        ("training.max_steps=3", ConfigError, "is past training.max_steps = 3"),
        ("run.resume=never", FileExistsError, "holds step_4 and run.resume is 'never'"),
        ("data.sequence_length=128", ConfigError, "data.sequence_length was 256, is 128"),
        ("model.vocab_size=300", ConfigError, "model.vocab_size was 512, is 300"),
        ("model.initial_weights=/no/weights", ConfigError, "there is no such file or folder"),
    ],
)
def test_train_refuses_what_a_real_run_does(
    dry_run: DryRun, trained: Path, override: str, kind: type[Exception], message: str
) -> None:
    more = ["training.max_steps=10"] if "max_steps" not in override else []
    with pytest.raises(kind, match=message):
        dry_run("train", trained / "config.json", *more, override)


def test_prepare_prints_whether_its_folder_is_up_to_date(
    dry_run: DryRun, trained: Path, tmp_path: Path
) -> None:
    path = trained / "config.json"
    assert f"prepare has nothing to do: {trained / 'data'} is up to date" in dry_run(
        "prepare", path
    )
    out = dry_run("prepare", path, "data.sources.0.num_examples=20")
    assert f"prepare makes {trained / 'data'} again" in out
    assert "source: problems of seed 1, the first 20" in out
    assert f"prepare makes {tmp_path / 'd'}\n" in dry_run(
        "prepare", path, f"data.folder={tmp_path / 'd'}"
    )
    source = ["data.sources.0.kind=parquet", "data.sources.0.path=/no/problems.parquet"]
    with pytest.raises(ConfigError, match="/no/problems.parquet.*there is no such file"):
        dry_run("prepare", path, *source)


def _asking(folder: Path, section: str, values: dict[str, Any]) -> Path:
    content = {"run": {"folder": str(folder / section)}, section: values}
    write_json(folder / f"{section}.json", content)
    return folder / f"{section}.json"


def test_sample_prints_which_parts_are_left(dry_run: DryRun, trained: Path, tmp_path: Path) -> None:
    values = {
        "checkpoints": [str(trained / "run" / "checkpoints" / "step_4")],
        "questions": {"name": "q", "kind": "problems", "num_questions": 5, "seed": 9},
        "num_candidates": 2,
        "max_new_tokens": 8,
        "questions_per_part": 2,
    }
    path = _asking(tmp_path, "sampling", values)
    out = dry_run("sample", path)
    assert "sample makes 3 of 3 parts" in out
    assert "q: 5 questions x 2 = 10 candidates in 3 parts" in out
    weights = re.search(r"each GPU rank: ([\d,]+) weights", out)
    assert weights and int(weights.group(1).replace(",", "")) == PARAMETERS
    run_ranks(1, ["launch/sample.py", str(path), "tracking.mode=disabled"])
    assert "sample has nothing to do" in dry_run("sample", path, "tracking.mode=disabled")
    (tmp_path / "sampling" / "part-00001.parquet").unlink()
    assert "sample makes 1 of 3 parts" in dry_run("sample", path, "tracking.mode=disabled")
    # Parts of another config stay until a real run.
    assert "sample makes 3 of 3 parts" in dry_run("sample", path, "sampling.temperatures=[0.1]")
    with pytest.raises(ConfigError, match="sampling.checkpoints.0 = '/no/step_1'"):
        dry_run("sample", path, 'sampling.checkpoints=["/no/step_1"]')


def test_evaluate_prints_what_is_drawn_and_scored(
    dry_run: DryRun, trained: Path, tmp_path: Path
) -> None:
    generator = str(trained / "run" / "checkpoints" / "step_4")
    values = {
        "generator": generator,
        "num_candidates": 2,
        "benchmarks": [{"name": "b", "kind": "problems", "num_questions": 3}],
    }
    path = _asking(tmp_path, "evaluation", values)
    out = dry_run("evaluate", path)
    assert "evaluate draws 1 of 1 parts, scores none: no verifier" in out
    assert "b: 3 questions x 3 = 9 candidates in 1 parts" in out
    with pytest.raises(CheckpointError, match="holds a generator, not a verifier"):
        dry_run("evaluate", path, f"evaluation.verifier={generator}")
    first = "evaluation.benchmarks.0"
    with pytest.raises(ConfigError, match="there is no such file"):
        dry_run("evaluate", path, f"{first}.kind=gsm8k", f"{first}.path=/no/questions")


def test_what_only_the_hub_has_is_left_there(dry_run: DryRun, tmp_path: Path) -> None:
    values = {
        "checkpoints": ["somebody/phi"],
        "questions": {"name": "q", "kind": "gsm8k", "path": "openai/gsm8k", "split": "train"},
    }
    out = dry_run("sample", _asking(tmp_path, "sampling", values))
    assert "sample reads somebody/phi, openai/gsm8k from the hub" in out
    assert "q: all questions of openai/gsm8k x 48 candidates" in out


def test_recipe_prints_every_stage_in_order(dry_run: DryRun, tmp_path: Path) -> None:
    demo = ROOT / "configs" / "recipe_demo.toml"
    out = dry_run("recipe", demo, f"run.folder={tmp_path / 'toy'}", *TOY)
    stages = re.findall(r"^  \[\d/7\] (\w+) ", out, re.MULTILINE)
    names = ["data_generator", "generator", "candidates", "data_verifier", "verifier"]
    assert stages == [*names, "evaluation", "report"]
    assert f"  1 x python launch/prepare.py {tmp_path}/toy/data_generator.json" in out
    assert f"  2 x python launch/train.py {tmp_path}/toy/verifier.json" in out
    assert out.count("memory: ") == 4 and out.count("2 ranks: tensor 1") == 2
    # The settings are those in use: where the recipe puts its stages, and what links them.
    assert f'generator.run.folder = "{tmp_path}/toy/generator"' in out
    assert f'verifier.model.initial_weights = "{tmp_path}/toy/generator/checkpoints/step_' in out
    assert "[1/7] data_generator makes" in out and "[2/7] generator runs after it" in out
    with pytest.raises(ConfigError, match="generator: training.global_batch_sequences"):
        dry_run("recipe", demo, *TOY, "--ranks", 3)


def test_recipe_prints_which_stages_are_finished(dry_run: DryRun, tmp_path: Path) -> None:
    demo, folder = ROOT / "configs" / "recipe_demo.toml", tmp_path / "toy"
    words = [str(demo), f"run.folder={folder}", *TOY]
    from training.config import PrepareConfig
    from training.data.prepare import prepare
    from training.stages.recipe import RecipeStage

    first = TrainConfig.model_validate(
        RecipeStage(load(RecipeConfig, words[:1], words[1:])).steps()[0].config
    )
    prepare(PrepareConfig(data=first.data, execution=first.execution))
    out = dry_run("recipe", *words)
    assert "[1/7] data_generator has nothing to do" in out
    assert f"launch/prepare.py {folder}/data_generator.json" not in out
    assert "[2/7] generator starts, from random weights" in out


def test_export_checks_the_checkpoint_and_the_folder(
    dry_run: DryRun, trained: Path, tmp_path: Path
) -> None:
    out = dry_run("export", trained / "run", tmp_path / "out")
    step = trained / "run" / "checkpoints" / "step_4"
    assert f"would write {tmp_path / 'out'}, {4 * PARAMETERS:,} bytes" in out
    assert f"the language_model of {step}" in out
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        dry_run("export", tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(FileExistsError, match="is not empty"):
        dry_run("export", step, trained)


def test_execute_checks_every_line(dry_run: DryRun, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"code": "x = 1"}\n' * 3)
    assert f"would run 3 programs of {source}, 2 at a time, and write {target}" in dry_run(
        "execute", source, target, "--num-workers", 2
    )
    source.write_text('{"code": 1}\n')
    with pytest.raises(ConfigError, match="line 1: no `code`"):
        dry_run("execute", source, target)


def test_report_reads_and_preflight_looks(dry_run: DryRun, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        dry_run("report", tmp_path / "nothing")
    recipe = tmp_path / "recipe"
    interval = {"value": 0.5, "low": 0.4, "high": 0.6}
    write_json(
        recipe / "evaluation" / "evaluation.json",
        {"benchmarks": {"b": {"num_questions": 2, "num_candidates": 1, "pass_at_1": interval}}},
    )
    out = dry_run("report", recipe)
    assert f"would write {recipe / 'report.html'} and report.json: 0 finished stages, b" in out
    out = dry_run("preflight", "--folder", tmp_path / "run", "--gpus", 0, "--min-free-gib", 2)
    assert "examine 1 node: 0 GPUs, 2 GiB free" in out
    with pytest.raises(ConfigError, match="/etc/hostname is no folder"):
        dry_run("preflight", "--folder", "/etc/hostname/run")


def test_verbs_that_only_read_do_as_ever(dry_run: DryRun, trained: Path, tmp_path: Path) -> None:
    config = trained / "config.json"
    assert f"== {trained / 'run'}" in dry_run("status", trained / "run")
    out = dry_run("plan", config, "--world-size", 2, "--json", tmp_path / "plan.json")
    assert "Memory of rank 0" in out
    demo = ROOT / "configs" / "recipe_demo.toml"
    out = dry_run("check", "recipe", demo, f"run.folder={tmp_path / 'toy'}", *TOY, "--write")
    assert out.splitlines()[:2] == [str(tmp_path / "toy"), "data_generator prepare"]
    assert dry_run("check", "train", config, "--attempt", "7:0") == f"{trained / 'run'}\n"


@pytest.mark.parametrize("verb", CONFIG_VERBS)
def test_a_wrong_config_is_said_in_one_message(verb: str, tmp_path: Path) -> None:
    config = ROOT / "configs" / ("recipe_demo.toml" if verb == "recipe" else "generator_demo.toml")
    words = [str(config), "run.foldr=x", "--dry-run"]
    done = subprocess.run(
        [sys.executable, f"launch/{verb}.py", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert "run.foldr: unknown key; did you mean run.folder?" in done.stderr


def test_ranks_are_for_dry_runs_and_one_of_them_speaks(tmp_path: Path) -> None:
    path = str(written(tmp_path, small.config(tmp_path, data={"prepare_if_missing": True})))
    (done,) = run_ranks(1, ["launch/train.py", path, "--ranks", "2"], check=False)
    assert done.returncode == 2 and "--ranks is for --dry-run" in done.stderr
    first, second = run_ranks(2, ["launch/train.py", path, "--dry-run"])
    assert "2 ranks: tensor 1 x pipeline 1 x data 2" in first.stdout
    assert second.stdout == "" and not (tmp_path / "run").exists()
