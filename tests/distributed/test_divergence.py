"""Runs that diverge: nothing that is not finite is saved, and the remedy that is named works."""

import math
from pathlib import Path

import pytest

from tests import small
from tests.distributed.diverging import LAYOUTS, Diverged, diverge, recover, skip
from tests.metrics import read_steps
from tests.ranks import run_distributed
from training.config import ConfigError, TrainConfig, resolved
from training.files import write_json
from training.lifecycle.run_folder import RUN
from training.stages.runs.train import status

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def diverged(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Diverged]]:
    """Of each rank, the run of every layout."""
    folder = tmp_path_factory.mktemp("divergence")
    return run_distributed(diverge, 2, small.prepared(folder), folder)


@pytest.mark.parametrize("name", LAYOUTS)
def test_weights_that_are_not_finite_are_never_committed(
    diverged: list[dict[str, Diverged]], name: str
) -> None:
    for outcome in (of_rank[name].outcome for of_rank in diverged):
        assert outcome.error.startswith("TrainingDiverged: weights are not finite after the update")
        assert "at step 1" in outcome.error and "starts from step 0" in outcome.error
        assert outcome.steps == []


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_rank_checks_its_own_state(diverged: list[dict[str, Diverged]], name: str) -> None:
    first, second = (of_rank[name].finite for of_rank in diverged)
    # NaN and both infinities, in the weights and both moments of rank 1.
    assert first == [True] * 11
    assert second == [True, *[False] * 9, True]


def test_a_gradient_that_is_not_finite_skips_the_update_on_all_ranks(tmp_path: Path) -> None:
    for found in run_distributed(skip, 2, small.config(tmp_path)):
        assert found == dict.fromkeys(found, [True, True, True])
        assert len(found) == 2 * len(LAYOUTS)


def test_the_remedy_that_the_message_names_works(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    main, other = run_distributed(recover, 2, small.prepared(tmp_path), folder)
    assert [run.error for run in main] == [run.error for run in other]
    good, wild, again, lower = main
    assert good.error == "" and good.steps == [1, 2, 3, 4]
    # The weights of step 5 are finite, and nothing can be computed with them.
    assert wild.steps == again.steps == [1, 2, 3, 4, 5]
    for run in (wild, again):
        assert "the gradients of 3 batches in a row are not finite (sequences " in run.error
        assert "at step 6: the run has diverged" in run.error
        assert run.output.count("update 6 is skipped: its gradient is not finite") == 3
        assert "lower optimizer.learning_rate" in run.error
        assert "resumes from its newest checkpoint, step 5" in run.error
        assert "it then resumes from step 4" in run.error
    assert "optimizer.learning_rate was 1e+20, is 0.001" in again.output
    assert "step_5" in again.output.split("resuming from")[1]
    assert lower.error == "" and lower.steps == [1, 2, 3, 4, 5, 6, 7, 8]
    assert "step_4" in lower.output.split("resuming from")[1]
    lines = read_steps(folder)
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert all(math.isfinite(float(line["train/loss"])) for line in lines)
    assert [line["train/learning_rate"] for line in lines[4:]] == [1e-3] * 4


def test_a_learning_rate_is_lowered_only_and_only_while_steps_are_left(tmp_path: Path) -> None:
    config = small.config(tmp_path)
    (config.run.folder / "checkpoints" / "step_5").mkdir(parents=True)
    write_json(config.run.folder / RUN, resolved(config))

    def rate(value: float, **training: int) -> TrainConfig:
        return small.config(
            tmp_path,
            optimizer={"learning_rate": value},
            training=training,
            checkpoint={"every_steps": 5},
        )

    assert "optimizer.learning_rate was 0.01, is 0.001" in status(rate(1e-3)).message
    with pytest.raises(ConfigError, match="was 0.01, is 0.02.*may be lowered"):
        status(rate(2e-2))
    with pytest.raises(ConfigError, match="was 0.01, is 0.001.*while steps are left"):
        status(rate(1e-3, max_steps=5))
    longer = status(rate(1e-2, max_steps=20)).message
    assert "training.max_steps was 10, is 20 (the learning rate follows it from here)" in longer
