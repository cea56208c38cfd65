from pathlib import Path

import pytest

from training.checkpoint_paths import checkpoint_path, saved_step, step_name, step_of


@pytest.mark.parametrize("step", [0, 1, 40, 123456])
def test_a_name_and_its_step(step: int):
    assert step_of(step_name(step)) == step
    assert checkpoint_path(Path("run"), step) == Path(f"run/checkpoints/step_{step}")


@pytest.mark.parametrize("name", ["step_", "step_007", "step_9.tmp", "step_-1", "step_٣", "Step_1"])
def test_other_names_are_no_steps(name: str):
    assert step_of(name) is None


def test_only_folders_that_training_commits_are_saved_steps(tmp_path: Path):
    assert saved_step(tmp_path) == 0
    for name in ("step_3", "step_007", "step_9.tmp"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    (tmp_path / "checkpoints" / "step_8").touch()
    assert saved_step(tmp_path) == 3
