import subprocess
import sys
from pathlib import Path

import pytest

from launch.prepare import main
from tests.ranks import ROOT
from training.data.dataset import SequenceDataset

SETTINGS = ["data.sequence_length=256", "data.sources.0.num_examples=40", "data.num_workers=1"]


def test_prepares_a_training_config_and_shows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [
        str(ROOT / "configs" / "generator_demo.toml"),
        f"data.folder={tmp_path}/data",
        "execution.timeout_seconds=5",
        "data.train_on_prompt=false",
        "training.prompt_loss_weight=1.0",
        *SETTINGS,
    ]
    assert main(settings) == 0
    assert len(SequenceDataset(tmp_path / "data", sequence_length=256)) > 0
    capsys.readouterr()
    assert main([*settings, "--show", "2"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("def simple_math_problem() -> int:") == 2
    assert shown.count("return result<end>»") == 2
    assert '"""\n«    ' in shown


def test_an_error_that_a_user_can_correct_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "launch/prepare.py", f"data.folder={tmp_path}", "data.rows=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("prepare.py: data.rows: unknown key")


def test_showing_what_is_not_prepared_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"launch/prepare\.py"):
        main([f"data.folder={tmp_path}/none", "--show", "1"])
