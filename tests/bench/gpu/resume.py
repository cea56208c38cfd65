"""A resume on this device: a run, its checkpoint, and the run that resumes from it."""

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from checkpoints import universal
from checkpoints.background import BackgroundWriter
from checkpoints.store import CheckpointStore
from parallel.ranks import ALONE
from tests.bench.gpu.engines import WITHOUT_DEEPSPEED, build_engine, engine_names, train_step
from tests.bench.gpu.record import Record
from tests.bench.gpu.sequences import micro_batches
from tests.bench.gpu.setting import Setting
from training.config import TrainConfig
from training.data.micro_batch import Batch

if TYPE_CHECKING:
    from parallel.engine import Engine  # it imports deepspeed, which may be missing

STEPS = 3
"""Before the checkpoint, and after it."""
TOLERANCE = 1e-3
"""Of losses, where they are not equal to the bit: backward passes of torch's attention kernel add
in no fixed order, and the weights are rounded to bf16."""
_RATE = 1e-4
_COPY_SECONDS = 30.0
"""Before an update is made without the copies: then the state read differs."""


def run(setting: Setting, record: Record) -> None:
    """The state read must be the state written, to the bit; the losses after it say which."""
    if "deepspeed" not in engine_names():
        record.note(WITHOUT_DEEPSPEED)
        record.row(what="resume", left_out="without deepspeed there is no state to save")
        return
    sequences = 2 if setting.toy else 4
    config = setting.config(
        "125m",
        f"training.micro_batch_sequences={sequences}",
        f"training.global_batch_sequences={2 * sequences}",
    )
    batches = micro_batches(setting, config, count=2, sequences=sequences)
    with tempfile.TemporaryDirectory() as folder:
        saved, expected = _first_attempt(setting, config, batches, Path(folder))
        setting.forget_memory()
        equal, found = _second_attempt(setting, config, batches, Path(folder), saved)
    record.row(what="states equal to the bit", values=len(saved), passed=equal)
    worst = max(abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True))
    record.row(
        what=f"{STEPS} losses after the resume",
        first=found[0],
        last=found[-1],
        relative_difference=worst,
        tolerance=TOLERANCE,
        equal_to_the_bit=found == expected,
        passed=worst <= TOLERANCE,
    )


State = dict[tuple[str, str], Tensor]
"""Unsharded values by parameter and kind."""


def _first_attempt(
    setting: Setting, config: TrainConfig, batches: list[Batch], folder: Path
) -> tuple[State, list[float]]:
    """What the checkpoint holds, and the losses of the steps during which it is written."""
    engine = _engine(setting, config)
    store, copied = CheckpointStore(folder, ranks=ALONE), threading.Event()
    writer = BackgroundWriter(store, ALONE)
    try:
        _losses(engine, batches)
        state = _state(engine)
        copies: universal.Copies = {}
        copy_later = universal.copy(engine, copies)

        def write(unfinished: Path) -> Iterator[Path]:
            copy_later()
            copied.set()
            yield from universal.write(unfinished, copies, config.model.head)

        engine.before_update(lambda: copied.wait(_COPY_SECONDS))
        writer.start(STEPS, store.begin(STEPS), write=write, write_last=lambda _: ())
        losses = _losses(engine, batches)
        writer.finish()
        return state, losses
    finally:
        engine.close()


def _second_attempt(
    setting: Setting, config: TrainConfig, batches: list[Batch], folder: Path, saved: State
) -> tuple[bool, list[float]]:
    """Whether the state read is the one saved, and the losses of the same steps."""
    newest = CheckpointStore(folder, ranks=ALONE).newest()
    assert newest is not None, "the checkpoint does not verify"
    # Other starting values than the first attempt's would show a parameter that is not read.
    other = config.model.model_copy(update={"init_std": 0.5})
    engine = _engine(setting, config.model_copy(update={"model": other}))
    try:
        universal.read(newest, engine, step=STEPS)
        found = _state(engine)
        equal = found.keys() == saved.keys() and all(
            torch.equal(value, saved[key]) for key, value in found.items()
        )
        return equal, _losses(engine, batches)
    finally:
        engine.close()


def _engine(setting: Setting, config: TrainConfig) -> "Engine":
    return cast("Engine", build_engine("deepspeed", setting, config))


def _state(engine: "Engine") -> State:
    return {
        (entry.name, entry.state): entry.value.to("cpu", copy=True)
        for entry in engine.state.to_save()
    }


def _losses(engine: "Engine", batches: list[Batch]) -> list[float]:
    return [train_step(engine, batches, learning_rate=_RATE) for _ in range(STEPS)]
