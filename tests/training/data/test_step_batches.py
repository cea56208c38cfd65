"""Batches on all ranks: a problem that one rank meets ends all of them, with one message."""

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from parallel.ranks import ALONE, Ranks
from tests import small
from tests.initial_values import initialise
from tests.ranks import ROOT, run_distributed, run_ranks
from training import manifest
from training.config import TrainConfig, resolved
from training.data import step_batches
from training.data.loader import Loader
from training.data.micro_batch import Batch
from training.data.order import sequence_indices
from training.data.step_batches import StepBatches, keeps_padding
from training.errors import DataError
from training.files import write_json
from training.losses import language_model_loss, micro_batch_loss
from training.models.build import empty_model
from training.monitoring.metrics import StepCounts

CPU = torch.device("cpu")


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    return small.prepared(tmp_path)


def with_zeros(path: Path, start: int, stop: int) -> None:
    content = bytearray(path.read_bytes())
    content[start:stop] = bytes(stop - start)
    path.write_bytes(content)


def _of_two_ranks(ranks: Ranks, tree: dict[str, Any]) -> StepBatches:
    return StepBatches(
        TrainConfig.model_validate(tree), ranks, data_rank=ranks.rank, data_degree=2, device=CPU
    )


def message_of_two_ranks(ranks: Ranks, tree: dict[str, Any], damaged_copy: str) -> str:
    """The second rank reads a damaged copy, as a rank on another node may."""
    if ranks.rank == 1:
        tree["data"]["folder"] = damaged_copy
    data = _of_two_ranks(ranks, tree)
    try:
        for _ in range(100):
            if data.next_step(is_last=False).failed:
                data.raise_together()
    except DataError as error:
        return str(error)
    finally:
        data.close()
    return ""


def test_a_rank_that_cannot_read_ends_all_ranks_with_its_message(
    config: TrainConfig, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(config.data.folder, copy)
    index = copy / "rows_00000.idx"
    with_zeros(index, 34, index.stat().st_size)
    messages = run_distributed(message_of_two_ranks, 2, resolved(config), str(copy), timeout=120)
    assert f"{index} is damaged" in messages[1]
    assert messages[0] == f"rank 1: {messages[1]}"


def test_training_on_a_damaged_shard_ends_on_all_ranks(config: TrainConfig, tmp_path: Path) -> None:
    with_zeros(config.data.folder / "rows_00000.bin", 1_000, 1_400)
    path = tmp_path / "config.json"
    write_json(path, resolved(config))
    command = [str(ROOT / "launch" / "train.py"), str(path)]
    ended = run_ranks(2, command, check=False, timeout=120)
    assert [each.returncode for each in ended] == [2, 2], ended
    assert "rows_00000.bin has changed since it was written" in ended[0].stderr
    assert "Traceback" not in ended[0].stderr + ended[1].stderr
    assert not (config.run.folder / "checkpoints" / "step_10").exists()


def test_repeats_are_counted_and_many_of_them_are_warned_of(
    config: TrainConfig, caplog: pytest.LogCaptureFixture
) -> None:
    def opened(max_steps: int) -> StepBatches:
        tree = resolved(config)
        tree["training"]["max_steps"] = max_steps
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            return StepBatches(
                TrainConfig.model_validate(tree),
                ALONE,
                data_rank=0,
                data_degree=1,
                device=CPU,
            )

    sequences = manifest.read(config.data.folder)["facts"]["sequences"]
    opened(4 * sequences // 8).close()
    assert not caplog.text
    data = opened(4 * sequences // 8 + 1)
    assert "passes 4." in caplog.text and "2305.16264" in caplog.text
    for step in range(1, 11):
        data.next_step(is_last=False)
        found = data.metrics()
        assert found["data/epochs"] == step * 8 / sequences
        seen = sequence_indices(np.arange(step * 8), num_sequences=sequences, seed=config.run.seed)
        assert found["data/repeated_fraction"] == 1 - len(set(seen.tolist())) / (step * 8)
    data.close()


def test_sources_with_weights_are_prepared_and_drawn_in_proportion(tmp_path: Path) -> None:
    sources = [
        {"kind": "problems", "num_examples": 200, "seed": 1, "weight": 0.75},
        {"kind": "problems", "num_examples": 100, "seed": 2, "weight": 0.25},
    ]
    config = small.prepared(
        tmp_path, data=small.config(tmp_path).data.model_dump(mode="json") | {"sources": sources}
    )
    data = StepBatches(config, ALONE, data_rank=0, data_degree=1, device=CPU)
    for _ in range(4):
        data.next_step(is_last=False)
    sizes = [
        source["sequences"] for source in manifest.read(config.data.folder)["facts"]["sources"]
    ]
    found = data.metrics()
    assert found["data/epochs/source_0"] == 24 / sizes[0]
    assert found["data/epochs/source_1"] == 8 / sizes[1]
    data.close()


def _opened(config: TrainConfig) -> StepBatches:
    return StepBatches(config, ALONE, data_rank=0, data_degree=1, device=CPU)


def test_the_state_is_that_of_the_last_step_although_the_next_is_prepared(
    config: TrainConfig,
) -> None:
    data = _opened(config)
    tokens = [data.next_step(is_last=False).batches[0].tokens for _ in range(4)]
    resumed = _opened(config)
    resumed.load_state_dict(data.state_dict() | {"consumed_sequences": 2 * 8})
    for step in (2, 3):
        assert resumed.state_dict()["consumed_sequences"] == step * 8
        sequences = resumed.last_sequences()
        step_made = resumed.next_step(is_last=False)
        assert torch.equal(step_made.batches[0].tokens, tokens[step])
        assert resumed.last_sequences() != sequences
    assert resumed.state_dict() == data.state_dict()
    data.close()
    resumed.close()


def test_a_step_that_cannot_be_read_is_not_consumed(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Loader) -> list[Batch]:
        raise DataError("sequence 7 is damaged")

    data = _opened(config)
    data.next_step(is_last=True)  # prepares no other
    monkeypatch.setattr(Loader, "next_step", fails)
    step = data.next_step(is_last=False)
    assert step.failed and not step.batches
    assert data.state_dict()["consumed_sequences"] == 8
    with pytest.raises(DataError, match="sequence 7 is damaged"):
        data.raise_together()
    data.close()


def _sums_of_two_ranks(ranks: Ranks, tree: dict[str, Any]) -> list[StepCounts]:
    data = _of_two_ranks(ranks, tree)
    found = [data.next_step(is_last=False).counts for _ in range(3)]
    data.close()
    return found


def test_counts_are_those_of_all_ranks(config: TrainConfig) -> None:
    data = _opened(config)
    alone = [data.next_step(is_last=False).counts for _ in range(3)]
    data.close()
    assert run_distributed(_sums_of_two_ranks, 2, resolved(config)) == [alone, alone]


@pytest.mark.parametrize(
    ("device", "changes", "keeps"),
    [
        ("cpu", {}, False),
        ("cuda", {}, True),
        ("cpu", {"training": {"compile": True}}, True),
        ("cpu", {"parallel": {"pipeline": 2}}, True),
        ("cpu", {"parallel": {"tensor": 2, "sequence_parallel": True}}, True),
    ],
)
def test_padding_is_left_out_where_shapes_may_differ(
    tmp_path: Path, device: str, changes: dict[str, Any], keeps: bool
) -> None:
    assert keeps_padding(small.config(tmp_path, **changes), torch.device(device)) is keeps


def test_the_losses_are_those_with_padding(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losses(keeps: bool) -> list[float]:
        monkeypatch.setattr(step_batches, "keeps_padding", lambda *_: keeps)
        data = StepBatches(config, ALONE, data_rank=0, data_degree=1, device=CPU)
        model = empty_model(config.model, "cpu")
        initialise(model, seed=1, std=0.05)
        try:
            batches = data.next_step(is_last=True).batches
        finally:
            data.close()
        shapes = {tuple(batch.tokens.shape) for batch in batches}
        assert (len(shapes) == 1) is keeps
        return [
            micro_batch_loss(model, language_model_loss, batch, CPU).item() for batch in batches
        ]

    assert losses(False) == pytest.approx(losses(True), rel=1e-6)
