"""A training run whose config leaves micro-batch and recomputation to the device."""

from pathlib import Path
from typing import Any

import pytest

from parallel.layout import Layout
from parallel.planning import auto
from parallel.ranks import Ranks
from tests.metrics import read_steps
from tests.training.data.preparing import jsonl, row
from tests.training.stages.test_train import QUESTION, config
from training.config import ConfigError
from training.files import read_json
from training.monitoring import names
from training.stages.runs.train import train


def losses(folder: Path) -> list[float]:
    return [step[names.LOSS] for step in read_steps(folder)]


def test_auto_is_chosen_once_logged_and_recorded(
    tmp_path: Path, ranks: Ranks, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    jsonl(tmp_path, *(row(QUESTION.format(number)) for number in range(60)))
    asked: dict[str, dict[str, Any]] = {
        "training": {"micro_batch_sequences": "auto"},
        "model": {"activation_checkpointing": "auto"},
        "data": {"prepare_if_missing": True},
    }
    ranks.disconnect()  # as a run begins
    train(config(tmp_path, **asked), ranks)
    assert "= auto: 4 sequences at a time, activations kept; planned peak" in caplog.text
    folder = tmp_path / "run"
    assert read_json(folder / "run.json")["training"]["micro_batch_sequences"] == "auto"
    became = read_json(folder / "auto.json")
    assert became["became"] == {
        "training.micro_batch_sequences": 4,
        "model.activation_checkpointing": False,
    }
    assert 0 < became["planned_peak_bytes"] < became["device_bytes"]
    by_number = tmp_path / "by_number"
    train(config(tmp_path, run={"folder": str(by_number)}), ranks)
    assert losses(folder) == losses(by_number)
    assert not (by_number / "auto.json").exists()
    # A resume on a smaller device: one that holds the states and two sequences.
    caplog.clear()
    ranks.disconnect()
    asked["training"]["max_steps"] = 3
    longer = config(tmp_path, **asked)
    peaks = auto.Peaks(longer, Layout.from_config(longer, 1))
    enough = int(peaks(2, False) / (1 - auto.HEADROOM)) + 1
    monkeypatch.setattr(auto, "device_memory", lambda device, ranks: enough)
    train(longer, ranks)
    assert "training.micro_batch_sequences was 4, is 2" in caplog.text
    assert read_json(folder / "auto.json")["device_bytes"] == enough
    by_number = config(
        tmp_path,
        run={"folder": str(by_number)},
        training={**asked["training"], "micro_batch_sequences": 4},
    )
    train(by_number, ranks)
    assert losses(folder) == pytest.approx(losses(by_number.run.folder), rel=1e-5)
    monkeypatch.setattr(auto, "device_memory", lambda device, ranks: 10_000)
    caplog.clear()
    ranks.disconnect()
    train(longer, ranks)  # finished, whatever the device
    assert "nothing to do" in caplog.text
    ranks.disconnect()
    asked["training"]["max_steps"] = 4
    with pytest.raises(ConfigError, match="1 sequence of 256 tokens at a time"):
        train(config(tmp_path, **asked), ranks)
