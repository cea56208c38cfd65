# pyright: reportPrivateUsage=false
"""What real engines hold and send in one step, measured on each of several ranks.

measured = run_distributed(measure_all, 4, cases)        # [rank][case]
"""

import functools
import gc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from parallel import settings
from parallel.engine import Engine
from parallel.groups import Groups
from parallel.layout import Layout
from parallel.parallelize import parallelize
from parallel.planning.communication import Exchange, Exchanges, Saved, held_bytes
from parallel.planning.trace import typical_micro_batch
from parallel.ranks import Ranks
from parallel.torch_internals import storage_key
from training.config import TrainConfig

SCALAR_BYTES = 16
"""Norms, flags and the loss are no larger, and not planned for."""
_GRADIENTS = (
    "fp32_groups_gradients_flat",
    "averaged_gradients",
    "all_grad_tensors",
    "grad_partitions_flat_buffer",
)


def tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from tensors_in(inner)


class Measured:
    """Looks into an engine at the moments of a step when it holds most of a kind."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.deepspeed = engine, engine._engine
        self.optimizer = self.deepspeed.optimizer
        self.most: Counter[str] = Counter()
        self.in_flight = 0
        zero_stage = engine.groups.layout.zero_stage
        self._before(self.optimizer, "step", self._gradients)
        if zero_stage < 2:
            self._before(self.deepspeed, "allreduce_gradients", self._gradients)
        if zero_stage in (1, 2) and hasattr(self.optimizer, "_release_ipg_buffers"):
            self._before(self.optimizer, "_release_ipg_buffers", self._buckets)
        if zero_stage == 3:
            coordinator = self.optimizer.parameter_offload.get_param_coordinator()
            self._after(coordinator, "_fetch_sub_module_impl", self._gathered)
        if engine.groups.pipeline is not None:
            self._after_instructions(self._pipeline)

    def _before(self, owner: Any, name: str, look: Callable[[], None]) -> None:
        call = getattr(owner, name)

        @functools.wraps(call)
        def looked(*args: Any, **kwargs: Any) -> Any:
            look()
            return call(*args, **kwargs)

        setattr(owner, name, looked)

    def _after(self, owner: Any, name: str, look: Callable[[], None]) -> None:
        call = getattr(owner, name)

        @functools.wraps(call)
        def looked(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            look()
            return result

        setattr(owner, name, looked)

    def _after_instructions(self, look: Callable[[], None]) -> None:
        """A pipeline calls its methods by a table of its schedule's instructions."""

        def looking(call: Callable[..., Any]) -> Callable[..., Any]:
            def looked(*args: Any, **kwargs: Any) -> None:
                call(*args, **kwargs)
                look()

            return looked

        table = self.deepspeed._INSTRUCTION_MAP
        self.deepspeed._INSTRUCTION_MAP = {kind: looking(call) for kind, call in table.items()}

    def _note(self, kind: str, num_bytes: int) -> None:
        self.most[kind] = max(self.most[kind], num_bytes)

    def _bucket_tensors(self) -> list[Tensor]:
        buckets = getattr(self.optimizer, "ipg_buckets", {})
        return [value for bucket in buckets.values() for value in tensors_in(bucket.buffer)]

    def _gradients(self) -> None:
        buckets = self._bucket_tensors()
        self._note("bucket_bytes", held_bytes(buckets))
        on_their_way = {storage_key(value) for value in buckets}
        found = [getattr(value, "grad", None) for value in self.parameters]
        found += [getattr(self.optimizer, name, None) for name in _GRADIENTS]
        held = [value for value in tensors_in(found) if storage_key(value) not in on_their_way]
        self._note("gradients_bytes", held_bytes(held))

    def _buckets(self) -> None:
        self._note("bucket_bytes", held_bytes(self._bucket_tensors()))

    def _gathered(self) -> None:
        coordinator = self.optimizer.parameter_offload.get_param_coordinator()
        elements = vars(coordinator)["_PartitionedParameterCoordinator__n_available_params"]
        self._note("gathered_bytes", elements * self.engine.dtype.itemsize)

    def _pipeline(self) -> None:
        engine = self.deepspeed
        ends = [engine.pipe_buffers["inputs"], engine.pipe_buffers["outputs"]]
        received = [engine.pipe_recv_buf, engine.grad_layer]
        self._note("pipeline_bytes", held_bytes(list(tensors_in([ends, received]))))
        begun = sum(value is not None for value in engine.pipe_buffers["inputs"])
        self.in_flight = max(self.in_flight, begun)

    @property
    def parameters(self) -> list[nn.Parameter]:
        return list(self.engine.state.parameters.values())

    def states(self) -> dict[str, int]:
        parts = [getattr(value, "ds_tensor", None) for value in self.parameters]
        weights = list(tensors_in([self.parameters, parts]))
        own = {storage_key(value) for value in weights}
        inner = getattr(self.optimizer, "optimizer", self.optimizer)
        flat = [group["params"] for group in inner.param_groups]
        flat.append(getattr(self.optimizer, "fp32_partitioned_groups_flat", []))
        masters = [value for value in tensors_in(flat) if storage_key(value) not in own]
        moments = list(tensors_in(list(inner.state.values())))
        return {
            "weights_bytes": held_bytes(weights),
            "optimizer_bytes": held_bytes([*masters, *moments]),
        }


def scope_of(exchange: Exchange, groups: Groups) -> str:
    if exchange.operation == "send":
        return "pipeline"
    if groups.tensor is not None:
        tensor = torch.distributed.get_process_group_ranks(groups.tensor)
        if list(exchange.ranks) == tensor:
            return "tensor"
    return "data"


def measure_all(
    ranks: Ranks, cases: Sequence[tuple[TrainConfig, dict[str, Any]]]
) -> list[dict[str, Any]]:
    """What this rank holds and sends in every case.

    Args:
        cases: Config, and what is added to the engine's ZeRO settings for DeepSpeed.
    """
    return [_measure(ranks, config, zero_settings) for config, zero_settings in cases]


def _measure(ranks: Ranks, config: TrainConfig, zero_settings: dict[str, Any]) -> dict[str, Any]:
    layout = Layout.from_config(config, ranks.world_size)
    groups = Groups.connect(layout, ranks)
    usual = settings.for_deepspeed

    def changed(config: TrainConfig, layout: Layout) -> dict[str, Any]:
        made = usual(config, layout)
        made["zero_optimization"] |= zero_settings
        return made

    settings.for_deepspeed = changed
    try:
        engine = parallelize(config, groups, torch.device("cpu"))
        measured, count = Measured(engine), engine.num_micro_batches
        weight = float(len(typical_micro_batch(config).supervised)) * count * layout.data
        # ZeRO-3 watches the order of use for two passes; a pipeline sends its shapes in one.
        for _ in range(2):
            rows = [typical_micro_batch(config) for _ in range(count)]
            engine.train_step(rows, loss_normalizer=weight, learning_rate=1e-3)
        measured.most.clear()
        saved, exchanges = Saved(engine.model), Exchanges()
        rows = [typical_micro_batch(config) for _ in range(count)]
        with exchanges, saved.counted():
            engine.train_step(rows, loss_normalizer=weight, learning_rate=1e-3)
        sent: Counter[str] = Counter()
        for exchange in exchanges.seen:
            if exchange.num_bytes > SCALAR_BYTES:
                sent[f"{scope_of(exchange, groups)} {exchange.operation}"] += exchange.num_bytes
        result = {
            **measured.most,
            **measured.states(),
            "in_flight": measured.in_flight,
            "saved_bytes_of_all_micro_batches": saved.num_bytes(),
            "num_micro_batches": count,
            "exchanged": dict(sent),
        }
        engine.close()
    finally:
        settings.for_deepspeed = usual
    groups.disconnect()
    gc.collect()
    return result
