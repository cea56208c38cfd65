"""Runs that diverge: nothing that is not finite is saved, and the remedy that is named works."""

import math
from pathlib import Path
from typing import Any

import pytest

from tests import small
from tests.distributed.diverging import LAYOUTS
from tests.metrics import read_steps
from tests.ranks import run_ranks
from training.config import ConfigError, TrainConfig, resolved
from training.files import read_json, write_json
from training.lifecycle.run_folder import RUN
from training.stages.runs.train import status

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What all the runs of diverging.py came to, and their folders."""
    folder = tmp_path_factory.mktemp("divergence")
    config, out = folder / "config.json", folder / "found.json"
    write_json(config, resolved(small.prepared(folder)))
    run_ranks(2, ["tests/distributed/diverging.py", str(config), str(out)])
    return {**read_json(out), "folder": folder}


@pytest.mark.parametrize("name", LAYOUTS)
def test_weights_that_are_not_finite_are_never_committed(found: dict[str, Any], name: str) -> None:
    for error in found[name]["errors"]:
        assert error.startswith("TrainingDiverged: weights are not finite after the update")
        assert "at step 1" in error and "starts from step 0" in error
    assert found[name]["steps"] == []


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_rank_sees_what_it_holds(found: dict[str, Any], name: str) -> None:
    whole, *spoilt, repaired = zip(*found[name]["poisoned"], strict=True)
    assert whole == repaired == (True, True)
    # NaN and both infinities, in the weights and both moments of rank 1.
    assert spoilt == [(True, False)] * 9


def test_the_remedy_that_the_message_names_works(found: dict[str, Any]) -> None:
    good, wild, again, lower = found["recovered"]
    assert good["errors"] == ["", ""] and good["steps"] == [1, 2, 3, 4]
    # The weights of step 5 are finite, and nothing can be computed with them.
    assert wild["steps"] == again["steps"] == [1, 2, 3, 4, 5]
    for run in (wild, again):
        assert "at step 6: the run has diverged" in run["errors"][0]
        assert run["errors"][0] == run["errors"][1]
        assert "lower optimizer.learning_rate" in run["errors"][0]
        assert "resumes from its newest checkpoint, step 5" in run["errors"][0]
        assert "it then resumes from step 4" in run["errors"][0]
    assert "optimizer.learning_rate was 1e+20, is 0.001" in again["said"]
    assert "step_5" in again["said"].split("resuming from")[1]
    assert lower["errors"] == ["", ""] and lower["steps"] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert "step_4" in lower["said"].split("resuming from")[1]
    lines = read_steps(found["folder"] / "recovered")
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
