"""What ranks save together, and what each reads again, while training continues."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from checkpoints import universal
from parallel import backend
from parallel.engine import Engine
from parallel.groups import Groups
from parallel.layout import Layout
from parallel.parallelize import parallelize
from parallel.planning.plan import make_plan
from parallel.planning.trace import typical_micro_batch
from parallel.ranks import Ranks
from parallel.sharding import MOMENTS, STATES
from tests import small
from tests.ranks import run_distributed
from training.config import TrainConfig, resolved
from training.disk import NotWritten
from training.models.build import parameter_sizes
from training.stages.runs import train as training
from training.verification import problems_of

LAYOUTS: dict[str, tuple[int, dict[str, Any]]] = {
    "1 rank": (1, {"zero_stage": 1}),
    "d2 z0": (2, {"zero_stage": 0}),
    "d2 z1": (2, {"zero_stage": 1}),
    "d2 z2": (2, {"zero_stage": 2}),
    "d2 z3": (2, {"zero_stage": 3}),
    "t2 z1": (2, {"tensor": 2, "zero_stage": 1}),
    "p2": (2, {"pipeline": 2, "zero_stage": 1}),
    "t2 d2 z1": (4, {"tensor": 2, "zero_stage": 1}),
}


def _engine(ranks: Ranks, config: TrainConfig) -> tuple[Any, Groups]:
    groups = Groups.connect(Layout.from_config(config, ranks.world_size), ranks)
    return parallelize(config, groups, torch.device("cpu")), groups


def _stepped(ranks: Ranks, folder: Path, parallel: dict[str, Any]) -> tuple[Any, Groups]:
    batch = {"global_batch_sequences": 8, "micro_batch_sequences": 2}
    config = small.config(folder, parallel=parallel, training=batch)
    engine, groups = _engine(ranks, config)
    batches = [typical_micro_batch(config)] * engine.num_micro_batches
    engine.train_step(batches, loss_normalizer=100.0, learning_rate=1e-3)
    return engine, groups


def _to_save(
    ranks: Ranks, folder: Path, parallel: dict[str, Any]
) -> list[tuple[str, str, int, bool]]:
    engine, groups = _stepped(ranks, folder, parallel)
    found = [
        (entry.name, entry.state, entry.value.numel(), entry.stays)
        for entry in engine.state.to_save()
    ]
    engine.close()
    groups.disconnect()
    return found


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_tensor_is_saved_by_one_rank_and_ranks_share_the_work(
    tmp_path: Path, name: str
) -> None:
    num_ranks, parallel = LAYOUTS[name]
    of_ranks = run_distributed(_to_save, num_ranks, tmp_path, parallel)
    everything = [(name, state) for rank in of_ranks for name, state, _, _ in rank]
    sizes = parameter_sizes(small.config(tmp_path).model)
    assert sorted(everything) == sorted((name, state) for name in sizes for state in STATES)
    loads = [sum(numel for _, _, numel, _ in rank) for rank in of_ranks]
    if "pipeline" not in parallel:  # whose stages are not equally large
        mean = sum(loads) / len(loads)
        assert max(loads) <= 1.3 * mean, loads
        config = small.config(tmp_path, parallel=parallel)
        plan = make_plan(config, Layout.from_config(config, num_ranks), rank=0)
        assert int(4 * mean) == plan.mine.copies_bytes
    if name in ("1 rank", "d2 z0"):  # no rank needs another
        assert all(stays for rank in of_ranks for *_, stays in rank)
    if name in ("d2 z1", "d2 z2"):  # but for the parameter on the border of two partitions
        spread = {name for rank in of_ranks for name, _, _, stays in rank if not stays}
        assert len(spread) <= 2, spread


def _read_back(ranks: Ranks, folder: Path, parallel: dict[str, Any]) -> bool:
    """Whether moments are restored from tensors that hold nothing but this rank's part."""
    engine, groups = _stepped(ranks, folder, parallel)
    engine.state._link_moments()
    expected: dict[tuple[str, str], Tensor] = {}
    partial: dict[tuple[str, str], Tensor] = {}
    for name, parameter in engine.state.parameters.items():
        size = engine.state.whole_size(parameter)
        partial[name, "fp32"] = torch.ones(size)
        for state in MOMENTS:
            start, values = backend.fragment(parameter, state)
            expected[name, state] = values.clone()
            flat = torch.full((size.numel(),), float("nan"))
            part = flat[start : start + values.numel()]
            part.copy_(values[: part.numel()])
            partial[name, state] = flat.view(size)
            values.zero_()
    engine.state.restore(lambda name, state: partial[name, state], step=1)
    equal = all(
        torch.equal(backend.fragment(engine.state.parameters[name], state)[1], values)
        for (name, state), values in expected.items()
    )
    engine.close()
    groups.disconnect()
    return equal


@pytest.mark.parametrize("zero_stage", [1, 2, 3])
def test_a_rank_reads_only_its_part_of_the_moments(tmp_path: Path, zero_stage: int) -> None:
    assert all(run_distributed(_read_back, 2, tmp_path, {"zero_stage": zero_stage}))


def _delayed(copy: Callable[..., Callable[[], None]]) -> Callable[..., Callable[[], None]]:
    """Copies that are made late: the next step has then done all but its update."""

    def delayed(*args: Any) -> Callable[[], None]:
        copy_later = copy(*args)

        def late() -> None:
            time.sleep(1)
            copy_later()

        return late

    return delayed


def _train(ranks: Ranks, tree: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(universal, "copy", _delayed(universal.copy))
        training.train(TrainConfig.model_validate(tree), ranks)


def _states(checkpoint: Path) -> dict[str, Tensor]:
    files = sorted((checkpoint / universal.FOLDER).rglob("*.pt"))
    return {
        str(path.relative_to(checkpoint)): torch.load(path, weights_only=True)["param"]
        for path in files
    }


@pytest.mark.parametrize(
    ("num_ranks", "changes"),
    [
        (1, {"training": {"compile": True}}),
        (2, {"parallel": {"zero_stage": 2}, "training": {"compile": True}}),
        (2, {"parallel": {"zero_stage": 1}, "training": {"precision": "bf16"}}),
    ],
    ids=["1 rank, compiled", "d2 z2, compiled", "d2 z1, bf16"],
)
def test_a_run_resumes_to_the_bit_from_a_checkpoint_written_behind_it(
    tmp_path: Path, num_ranks: int, changes: dict[str, dict[str, Any]]
) -> None:
    config = small.prepared(
        tmp_path,
        training={"max_steps": 6, "micro_batch_sequences": 2, **changes["training"]},
        parallel=changes.get("parallel", {}),
        checkpoint={"every_steps": 3},
    )
    tree = resolved(config)
    run_distributed(_train, num_ranks, tree, timeout=300)
    whole = _states(config.run.folder / "checkpoints" / "step_6")
    resumed = tmp_path / "resumed"
    shutil.copytree(config.run.folder, resumed)
    shutil.rmtree(resumed / "checkpoints" / "step_6")
    (resumed / "manifest.json").unlink()
    tree["run"]["folder"] = str(resumed)
    run_distributed(_train, num_ranks, tree, timeout=300)
    again = _states(resumed / "checkpoints" / "step_6")
    assert again.keys() == whole.keys() and whole
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def _slow_saves(ranks: Ranks, tree: dict[str, Any]) -> tuple[int, int]:
    """How many checkpoints were written at a time at most, and in how many steps one was."""
    at_a_time: list[int] = []
    overlapped: list[bool] = []

    def threads() -> int:
        return sum(thread.name == "checkpoint" for thread in threading.enumerate())

    def slow(write: Callable[..., Iterator[Path]]) -> Callable[..., Iterator[Path]]:
        def writes(*args: Any) -> Iterator[Path]:
            for path in write(*args):
                at_a_time.append(threads())
                time.sleep(0.02)
                yield path

        return writes

    def watched(step: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def steps(*args: Any, **kwargs: Any) -> Tensor:
            overlapped.append(threads() > 0)
            return step(*args, **kwargs)

        return steps

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(universal, "write", slow(universal.write))
        patched.setattr(Engine, "train_step", watched(Engine.train_step))
        training.train(TrainConfig.model_validate(tree), ranks)
    return max(at_a_time), sum(overlapped)


def test_steps_continue_while_one_checkpoint_is_written_and_the_next_waits(tmp_path: Path) -> None:
    config = small.prepared(tmp_path, training={"max_steps": 4}, checkpoint={"every_steps": 1})
    ((at_a_time, overlapped),) = run_distributed(_slow_saves, 1, resolved(config))
    assert at_a_time == 1
    assert overlapped == 3  # all steps but the first
    checkpoints = config.run.folder / "checkpoints"
    assert all(not problems_of(checkpoints / f"step_{step}") for step in range(1, 5))


def _failing_save(ranks: Ranks, tree: dict[str, Any]) -> tuple[str, int]:
    """The run's error, and the steps that were begun."""
    begun: list[int] = []

    def fails(folder: Path, *_: Any) -> Iterator[Path]:
        if ranks.rank == 1:
            raise NotWritten(f"{folder} cannot be written: Input/output error", 5)
        yield from ()

    def counted(step: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def steps(*args: Any, **kwargs: Any) -> Tensor:
            begun.append(1)
            time.sleep(0.3)  # the thread has failed by the end of the step
            return step(*args, **kwargs)

        return steps

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(universal, "write", fails)
        patched.setattr(Engine, "train_step", counted(Engine.train_step))
        try:
            training.train(TrainConfig.model_validate(tree), ranks)
        except NotWritten as error:
            return str(error), len(begun)
    return "", len(begun)


def test_a_rank_that_cannot_write_ends_all_at_the_next_step(tmp_path: Path) -> None:
    config = small.prepared(
        tmp_path,
        training={"max_steps": 9, "micro_batch_sequences": 4},
        checkpoint={"every_steps": 3},
    )
    for message, begun in run_distributed(_failing_save, 2, resolved(config)):
        assert "Input/output error (on rank 1)" in message
        assert "at the checkpoint of step 3" in message
        assert begun == 4
    assert not (config.run.folder / "checkpoints" / "step_3").exists()
