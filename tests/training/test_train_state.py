"""The state beside the weights: older ones load, others are refused by name."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from parallel.engine import Engine
from training.errors import CheckpointError, DamagedFileError
from training.train_state import TrainState


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "step_10"
    made.mkdir()
    layout = {"tensor": 1, "pipeline": 1, "data": 2, "zero_stage": 1, "sequence": False}
    goodput = {"productive_seconds": 1.5}
    TrainState(step=10, tokens=99, loader={"seed": 1}, goodput=goodput, layout=layout).save(made)
    return made


def test_what_was_saved_is_loaded(folder: Path) -> None:
    state = TrainState.load(folder)
    assert (state.step, state.tokens, state.loader) == (10, 99, {"seed": 1})
    assert state.layout["data"] == 2 and state.goodput == {"productive_seconds": 1.5}


def test_the_loss_scaling_of_fp16_comes_back(folder: Path) -> None:
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler

    scaler = DynamicLossScaler(
        init_scale=2.0**16,
        scale_window=100,
        min_scale=1,
        delayed_shift=1,
        consecutive_hysteresis=False,
        raise_error_at_min_scale=True,
        dtype=torch.float16,
    )
    scaler.update_scale(False)
    engine = object.__new__(Engine)
    engine.config = SimpleNamespace(training=SimpleNamespace(precision="fp16"))  # pyright: ignore
    engine._engine = SimpleNamespace(  # pyright: ignore
        optimizer=SimpleNamespace(loss_scaler=scaler)
    )
    saved = engine.loss_scale
    TrainState(step=10, loss_scale=saved).save(folder)
    before = dict(vars(scaler))
    scaler.update_scale(False)
    assert vars(scaler) != before
    engine.set_loss_scale(TrainState.load(folder).loss_scale)
    assert vars(scaler) == before and type(scaler.raise_error_at_min_scale) is bool


def test_fields_that_an_older_version_lacks_have_their_defaults(folder: Path) -> None:
    content = {"step": 10, "tokens": 5, "layout": {"tensor": 1, "data": 4}, "goodput": {"a": 2}}
    (folder / "train_state.json").write_text(json.dumps(content))
    state = TrainState.load(folder)
    assert (state.tokens, state.loss_scale, state.wandb_run_id) == (5, {}, "")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"curriculum": {}}, r"holds curriculum, which this version does not know"),
        ({"layout": {"tensor": 1, "context": 2}}, "holds context, which this version"),
        ({"step": 7}, r"train_state\.json is of step 7, its folder is step_10"),
        ({"step": "10"}, r"step = '10' is no value"),
        ({"step": 10.5}, "step = 10.5"),
        ({"step": True}, "step = True"),
        ({"tokens": None}, "tokens = None"),
        ({"loader": []}, r"loader = \[\]"),
        ({"goodput": {"a": "b"}}, "goodput.a = 'b'"),
        ({"layout": {"data": "two"}}, "data = 'two'"),
        ({"layout": None}, "layout = None"),
        ({"wandb_run_id": 3}, "wandb_run_id = 3"),
    ],
)
def test_other_states_are_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    path = folder / "train_state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(CheckpointError, match=message):
        TrainState.load(folder)


@pytest.mark.parametrize("content", ["[]", "{", "3"])
def test_what_is_no_state_is_named(folder: Path, content: str) -> None:
    (folder / "train_state.json").write_text(content)
    with pytest.raises(DamagedFileError, match=r"train_state\.json (holds|is not valid JSON)"):
        TrainState.load(folder)
