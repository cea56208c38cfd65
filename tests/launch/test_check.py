"""What launch/check.py finds wrong without torch, ranks or a cluster."""

import subprocess
import sys
from pathlib import Path

import pytest

from launch.check import main
from tests import small
from tests.launch.test_recipe import TOY
from tests.ranks import ROOT
from training.config import ConfigError, RecipeConfig, SampleConfig, load, resolved
from training.files import write_json
from training.lifecycle import attempts
from training.stages.recipe import RecipeStage


def train(tmp_path: Path, *more: str) -> list[str]:
    config = small.config(tmp_path, data={"prepare_if_missing": True})
    write_json(tmp_path / "config.json", resolved(config))
    return ["train", str(tmp_path / "config.json"), *more]


def test_a_run_that_can_start_prints_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*train(tmp_path), "--ranks", "2"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'run'}\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--ranks", "3"], "data-parallel ranks = 4 x 3 = 12"),
        (["data.prepare_if_missing=false"], "holds no prepared data"),
        (["model.initial_weights=/no/such/folder"], "there is no such file or folder"),
        (["run.folder=/etc/hostname/runs"], "/etc/hostname is no folder"),
        (["optimizer.warmup_steps=10"], "does not end before"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, more: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        main(train(tmp_path, *more))


def test_damaged_and_missing_files_of_sources_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "train-00000-of-00001.parquet").write_bytes(b"PAR1")
    command = train(tmp_path, f'data.sources=[{{kind="parquet", path="{folder}"}}]')
    with pytest.raises(ConfigError, match="00000-of-00001.parquet is not a whole Parquet file"):
        main(["prepare", *command[1:]])
    (folder / "train-00000-of-00001.parquet").rename(folder / "train-00000-of-00002.parquet")
    with pytest.raises(ConfigError, match="1 of 2 files: train-00001-of-00002 is missing"):
        main(["prepare", *command[1:]])


def test_an_unknown_stage_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'trian' is no stage"):
        main(["trian", "configs/generator_1b3.toml"])


def test_attempts_are_recorded_where_the_job_says_so(tmp_path: Path) -> None:
    for attempt in range(3):
        assert main([*train(tmp_path), "--attempt", f"5:{attempt}"]) == 0
    with pytest.raises(attempts.NoProgress):
        main([*train(tmp_path), "--attempt", "5:3"])


def test_a_recipe_writes_valid_stages_only(tmp_path: Path) -> None:
    demo = str(ROOT / "configs" / "recipe_demo.toml")
    folder = tmp_path / "toy"
    assert main(["recipe", demo, f"run.folder={folder}", *TOY, "--write"]) == 0
    assert load(SampleConfig, [folder / "candidates.json"]).sampling.num_candidates == 4
    recipe = load(RecipeConfig, [demo], [f"run.folder={tmp_path / 'other'}", *TOY])
    assert [step.stage().verb for step in RecipeStage(recipe).steps()] == [
        "prepare",
        "train",
        "sample",
        "prepare",
        "train",
        "evaluate",
    ]


def test_it_takes_no_torch(tmp_path: Path) -> None:
    words = train(tmp_path)
    code = f"import sys; from launch.check import main; main({words!r}); print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "'pydantic'" in done.stdout and "'torch'" not in done.stdout


@pytest.mark.parametrize("path", sorted((ROOT / "slurm").glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_bash(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)
    text = path.read_text()
    if "\n#SBATCH --job-name" in text:
        assert "set -euo pipefail" in text and "#SBATCH --open-mode=append" in text
        assert "#SBATCH --requeue" in text
        goes_on = path.name != "report.sh"
        assert ("#SBATCH --signal=B:USR1@300" in text) == goes_on
