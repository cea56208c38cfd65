"""What a checkpoint costs: how long training waits for it, and until it is on disk.

    make bench BENCH="--only saving saving.turns=9"

First one process and its local disk, beside `torch.save` and torch's distributed checkpoint of the
same weights and moments. Ours writes more: the model as a Hugging Face folder as well, and every
file is flushed to disk and hashed. Then ranks on a slow file system: each file takes as long as
its bytes do at a fixed rate of its rank.
"""
# pyright: reportPrivateUsage=false

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor

from checkpoints import universal
from checkpoints.saver import Saver
from checkpoints.store import CheckpointStore
from parallel.engine import Engine
from parallel.groups import Groups
from parallel.layout import Layout
from parallel.parallelize import parallelize
from parallel.ranks import Ranks, discover
from tests.bench.examples import CPU, LEARNING_RATE, prepared, steps_of
from tests.bench.gpu.engines import fresh_model
from tests.bench.gpu.record import Record, short
from tests.bench.sizes import Saving
from tests.ranks import run_distributed
from training.config import TrainConfig
from training.data.prepared import tokenizer_of
from training.models import huggingface
from training.models.build import parameter_sizes
from training.train_state import TrainState

_dcp: Any = dcp  # its functions are in no list of what it exports
OURS, TORCH = "ours", "torch.save"
_TIMEOUT_SECONDS = 600
_RANKS = (1, 2, 4, 8)
_SLOW_SECONDS = 6
"""What one rank takes for all of its checkpoint on the slow file system."""


@dataclass(frozen=True, kw_only=True)
class Saved:
    """One checkpoint, and the step after it."""

    wait: float
    """Seconds for which training stands still."""
    wait_cpu: float
    """Of them those that its thread computes."""
    with_step: float
    """Seconds until the step after it is done."""
    total: float
    """Seconds until all is written."""


class Way(Protocol):
    """One way to save."""

    waited: float
    """Seconds for which the step after `save` waited for it."""

    def save(self, folder: Path) -> Callable[[], object]:
        """Begin; returns what waits for the end."""
        ...


def run(sizes: Saving, folder: Path, record: Record) -> None:
    """Both parts."""
    _one_process(sizes, folder, record)
    _slow_ranks(sizes, folder, record)


def _one_process(sizes: Saving, folder: Path, record: Record) -> None:
    shape = (f"model.hidden_size={sizes.hidden_size}", f"model.num_layers={sizes.num_layers}")
    shape += (f"model.ffn_size={4 * sizes.hidden_size}", "model.num_heads=8")
    batch = ("training.global_batch_sequences=1", "training.micro_batch_sequences=1")
    config = prepared(folder, sizes.examples, *shape, *batch, "parallel.zero_stage=1")
    ranks = discover()
    ranks.connect(CPU)
    training = _Training(config, ranks)
    state = {
        f"{entry.name}.{entry.state}": entry.value for entry in training.engine.state.to_save()
    }
    ways: dict[str, Way] = {
        OURS: _Ours(config, training.engine, ranks),
        TORCH: _Waited(lambda path: torch.save(state, path / "state.pt")),
        "torch.distributed.checkpoint": _Waited(
            lambda path: _dcp.save(state, checkpoint_id=path / "dcp")
        ),
        "torch.distributed.checkpoint, async": _Async(state),
    }
    found: dict[str, list[Saved]] = {name: [] for name in ways}
    alone: list[float] = []
    for turn in range(sizes.turns + 1):
        for name, way in ways.items():
            saved = _saved(way, training, folder / "saved")
            if turn:
                found[name].append(saved)
            elif name == OURS:
                record.note(
                    "The first save of a run, whose copies find no memory of an earlier one: "
                    f"training waits {saved.wait:.2f} s."
                )
        begin = time.perf_counter()
        training.step()
        alone.append(time.perf_counter() - begin)
    num_bytes = sum(value.nbytes for value in state.values())
    for name, saves in found.items():
        record.row(
            state=f"{num_bytes / 1e9:.2f} GB",
            way=name,
            **{
                "training waits, s": [each.wait for each in saves],
                "CPU s": [each.wait_cpu for each in saves],
                "of torch.save's wait": [
                    mine.wait / theirs.wait
                    for mine, theirs in zip(saves, found[TORCH], strict=True)
                ],
                "with the next step, s": [each.with_step for each in saves],
                "until written, s": [each.total for each in saves],
            },
        )
    record.row(way="a step without a save", **{"with the next step, s": alone[1:]})


def _saved(way: Way, training: "_Training", place: Path) -> Saved:
    place.mkdir(parents=True)
    way.waited = 0.0
    begin, cpu = time.perf_counter(), time.thread_time()
    finish = way.save(place)
    wait, wait_cpu = time.perf_counter() - begin, time.thread_time() - cpu
    training.step()
    with_step = time.perf_counter() - begin
    finish()
    total = time.perf_counter() - begin
    shutil.rmtree(place)
    return Saved(wait=wait + way.waited, wait_cpu=wait_cpu, with_step=with_step, total=total)


class _Training:
    """An engine and a step that it repeats; one is done: before it there are no moments."""

    def __init__(self, config: TrainConfig, ranks: Ranks) -> None:
        groups = Groups.connect(Layout.from_config(config, ranks.world_size), ranks)
        model = fresh_model(config.model, CPU)
        value_of = cast(Any, model).get_parameter
        self.engine = parallelize(config, groups, CPU, value_of=value_of)
        (self._batches,) = steps_of(config, 1, rank=ranks.rank, world_size=ranks.world_size)
        self.step()

    def step(self) -> None:
        self.engine.train_step(self._batches, loss_normalizer=100.0, learning_rate=LEARNING_RATE)


class _Waited:
    """A way that returns once all is written."""

    waited = 0.0

    def __init__(self, write: Callable[[Path], object]) -> None:
        self._write = write

    def save(self, folder: Path) -> Callable[[], object]:
        self._write(folder)
        return lambda: None


class _Async:
    """torch's distributed checkpoint: copied at once, written in a thread."""

    waited = 0.0

    def __init__(self, state: dict[str, Tensor]) -> None:
        self._state = state

    def save(self, folder: Path) -> Callable[[], object]:
        future = _dcp.async_save(self._state, checkpoint_id=folder / "dcp")
        return getattr(future, "upload_completion", future).result


class _Ours:
    """One saver, as a run has; its store is another folder for each save."""

    def __init__(self, config: TrainConfig, engine: Engine, ranks: Ranks) -> None:
        self.waited = 0.0
        self._ranks, self._step = ranks, 0
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(engine, "before_update", self._before_update(engine.before_update))
            self._saver = Saver(
                config,
                engine,
                CheckpointStore(Path(), ranks=ranks),
                tokenizer_of(config),
                heartbeat=lambda: None,
            )
        self._layout = asdict(engine.groups.layout)

    def _before_update(self, register: Callable[..., None]) -> Callable[..., None]:
        def registers(function: Callable[[], object]) -> None:
            def timed() -> None:
                begin = time.perf_counter()
                function()
                self.waited += time.perf_counter() - begin

            register(timed)

        return registers

    def save(self, folder: Path) -> Callable[[], object]:
        self._step += 1
        store = CheckpointStore(folder / "checkpoints", ranks=self._ranks)
        self._saver._store = self._saver._writer._store = store
        self._saver.save(TrainState(step=self._step, layout=self._layout))
        return self._saver.finish


def _slow_ranks(sizes: Saving, folder: Path, record: Record) -> None:
    config = prepared(
        folder,
        sizes.examples,
        "parallel.zero_stage=1",
        f"training.global_batch_sequences={sizes.most_ranks}",
        "training.micro_batch_sequences=1",
    )
    one: float | None = None
    for num_ranks in (count for count in _RANKS if count <= sizes.most_ranks):
        place = folder / "saved"
        try:
            of_ranks = run_distributed(
                _slow_save, num_ranks, config, place, sizes.turns, timeout=_TIMEOUT_SECONDS
            )
        except AssertionError as error:
            record.row(ranks=num_ranks, error=short(error))
            continue
        finally:
            shutil.rmtree(place, ignore_errors=True)
        totals = [total for _, total in of_ranks[0]]
        one = one or min(totals)
        record.row(
            state=f"slow file system, {_SLOW_SECONDS} s for all files",
            way=OURS,
            ranks=num_ranks,
            **{
                "training waits, s": [wait for wait, _ in of_ranks[0]],
                "until written, s": totals,
                "of one rank's": [total / one for total in totals],
            },
        )
    record.note(
        "On the slow file system the ranks' files take as long as their bytes at the same rate "
        "for each rank. Rank 0 then writes the Hugging Face weights, a quarter of all bytes in "
        "fp32 and a seventh in bf16, which does not become faster with ranks."
    )


def _slow_save(
    ranks: Ranks, config: TrainConfig, folder: Path, turns: int
) -> list[tuple[float, float]]:
    """On each rank: for how long the call waits, and until all is written."""
    training = _Training(config, ranks)
    sizes = parameter_sizes(config.model).values()
    # Weights and two moments, and the weights for Hugging Face.
    rate = 4 * sum(4 * size.numel() for size in sizes) / _SLOW_SECONDS

    def slowed(save: Callable[..., None], size_of: Callable[[Any], int]) -> Callable[..., None]:
        def call(content: Any, *args: Any, **kwargs: Any) -> None:
            time.sleep(size_of(content) / rate)
            save(content, *args, **kwargs)

        return call

    universal.save_torch = slowed(universal.save_torch, lambda found: found["param"].nbytes)
    huggingface.save_file = slowed(
        huggingface.save_file, lambda found: sum(value.nbytes for value in found.values())
    )
    ours = _Ours(config, training.engine, ranks)
    found: list[tuple[float, float]] = []
    for turn in range(turns):
        ranks.barrier()
        begin = time.perf_counter()
        finish = ours.save(folder / f"turn_{turn}")
        wait = time.perf_counter() - begin
        finish()
        found.append((wait, time.perf_counter() - begin))
    return found
