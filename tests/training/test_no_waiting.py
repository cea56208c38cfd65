"""Within a step the host reads no number of the device but the one that decides on the update.

On a GPU every read waits until all that was asked of it is done. A CPU has nothing to wait for, so
the reads are counted: `item`, `tolist`, `nonzero`, and all that needs a tensor's value in Python.
"""
# pyright: reportPrivateUsage=false

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor
from torch.overrides import TorchFunctionMode

from parallel.engine import Engine
from parallel.late_values import LateValues
from parallel.ranks import Ranks
from parallel.torch_internals import TorchDispatchMode
from tests import small
from tests.ranks import run_distributed
from training.lifecycle.signals import StopSignal
from training.trainer import Trainer

STEPS = 5
NEED_A_VALUE = {"_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero"}
TO_PYTHON = {Tensor.tolist, Tensor.numpy, Tensor.cpu}
DECIDES = ("_clip_gradients", "is_invalid_grad_norm")
"""Whether an update is made or skipped is decided by the norm: ours without ZeRO, DeepSpeed's."""


class Reads:
    """Where tensors' values were read, as the names of the calling functions, innermost last."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []

    def note(self) -> None:
        self.seen.append([frame.name for frame in traceback.extract_stack()])


class Operators(TorchDispatchMode):
    def __init__(self, reads: Reads) -> None:
        super().__init__()
        self._reads = reads

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.overloadpacket.__name__ in NEED_A_VALUE:
            self._reads.note()
        return func(*args, **(kwargs or {}))


class Functions(TorchFunctionMode):
    def __init__(self, reads: Reads) -> None:
        super().__init__()
        self._reads = reads

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in TO_PYTHON:
            self._reads.note()
        return func(*args, **(kwargs or {}))


def _run(ranks: Ranks, folder: Path, zero_stage: int) -> tuple[list[str], list[list[str]]]:
    """Steps and late reads in their order, and who read a value within a step."""
    events: list[str] = []
    reads = Reads()

    def noted(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            events.append(what)
            return function(*args, **kwargs)

        return call

    config = small.prepared(
        folder,
        training={"max_steps": STEPS, "global_batch_sequences": 8, "micro_batch_sequences": 4},
        parallel={"zero_stage": zero_stage},
    )
    with (
        pytest.MonkeyPatch.context() as patched,
        StopSignal(ranks) as stop,
        Trainer(config, ranks, stop) as trainer,
    ):
        patched.setattr(Engine, "train_step", noted("step", Engine.train_step))
        patched.setattr(LateValues, "read", noted("read", LateValues.read))
        made = trainer._step

        def step(*args: Any) -> Any:
            with Operators(reads), Functions(reads):
                return made(*args)

        patched.setattr(trainer, "_step", step)
        trainer.run()
    return events, reads.seen


@pytest.mark.parametrize("zero_stage", [0, 1, 2])
def test_the_host_reads_nothing_but_whether_to_update(tmp_path: Path, zero_stage: int) -> None:
    ((events, seen),) = run_distributed(_run, 1, tmp_path, zero_stage)
    # The numbers of a step are read once the next is under way, those of the last at the end.
    assert events == ["step", *["step", "read"] * (STEPS - 1), "read"]
    elsewhere = [stack for stack in seen if not set(DECIDES) & set(stack)]
    assert not elsewhere, elsewhere[0]
    # None for each micro-batch. DeepSpeed looks at the norm three times, after one wait.
    assert len(seen) == STEPS * (3 if zero_stage else 1)
