"""Count what a rank sends and what autograd saves while real code runs.

    exchanges, saved = Exchanges(), Saved(model)
    with exchanges, saved.counted():
        ...                                 # a step, or the forward pass of a micro-batch
    exchanges.seen, saved.num_bytes()

Both work on real and fake tensors, over real and fake process groups.
"""

import contextlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from parallel.torch_internals import TorchDispatchMode, storage_key


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """A collective or a send, seen from one rank of its group."""

    operation: str
    """`all-reduce`, `all-gather`, `reduce-scatter`, `broadcast` or `send`."""
    num_bytes: int
    """Of the full tensor: what is summed, what the shards make together, what is sent."""
    ranks: tuple[int, ...]
    """The group; of a `send`, the group that both ranks are in."""


def sent_bytes(operation: str, num_bytes: int, num_ranks: int) -> int:
    """Bytes that each of `num_ranks` ranks sends in a ring collective over `num_bytes`.

    An all-reduce is a reduce-scatter and an all-gather, each of which passes every shard on
    `num_ranks - 1` times (arXiv 1802.05799, section 2).
    """
    if num_ranks == 1:
        return 0
    if operation in ("send", "broadcast"):
        return num_bytes
    passes = 2 if operation == "all-reduce" else 1
    return passes * (num_ranks - 1) * num_bytes // num_ranks


class Exchanges(TorchDispatchMode):
    """Records every collective and every send within the block, in `seen`.

    Those of groups of one rank are left out: nothing leaves the rank.
    """

    _OPERATIONS = {
        "allreduce_": ("all-reduce", 0),
        "allgather_": ("all-gather", 0),
        "_allgather_base_": ("all-gather", 0),
        "reduce_scatter_": ("reduce-scatter", 1),
        "_reduce_scatter_base_": ("reduce-scatter", 1),
        "broadcast_": ("broadcast", 0),
        "send": ("send", 0),
    }
    """torch's operators: the operation, and which argument holds the full tensor."""
    _SENDS_NOTHING = ("recv_", "barrier")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Exchange] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            self._record(func.__name__.split(".")[0], args)
        return func(*args, **(kwargs or {}))

    def _record(self, name: str, arguments: Sequence[Any]) -> None:
        if name in self._SENDS_NOTHING:
            return
        operation, position = self._OPERATIONS[name]
        group = next(found for found in map(_process_group, arguments) if found is not None)
        ranks = tuple(dist.get_process_group_ranks(group))
        if len(ranks) > 1:
            num_bytes = sum(value.nbytes for value in _tensors(arguments[position]))
            self.seen.append(Exchange(operation=operation, num_bytes=num_bytes, ranks=ranks))


def _process_group(value: Any) -> ProcessGroup | None:
    if isinstance(value, torch.ScriptObject):
        with contextlib.suppress(RuntimeError):  # a reduction's kind is a ScriptObject too
            return ProcessGroup.unbox(value)
    return None


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    else:
        for inner in value:
            yield from _tensors(inner)


class Saved:
    """What autograd saves for the backward pass: each storage once, without parameters.

    The model's parameters must be there already: filling a model replaces them.
    """

    def __init__(self, model: nn.Module) -> None:
        self._parameters = list(model.parameters())
        # The tensors themselves: a freed storage's key may be reused by another one.
        self._tensors: list[Tensor] = []

    @contextmanager
    def counted(self) -> Generator[None, None, None]:
        """Count what the block saves."""
        with torch.autograd.graph.saved_tensors_hooks(self._record, _identity):
            yield

    def _record(self, value: Tensor) -> Tensor:
        # Computed each time: under ZeRO-3 parameters are gathered and freed.
        own = {storage_key(parameter) for parameter in self._parameters}
        if storage_key(value) not in own:
            self._tensors.append(value)
        return value

    def clear(self) -> None:
        """Forget what was counted, so that the backward pass can free it."""
        self._tensors.clear()

    def num_bytes(self, *, beside: Sequence[Tensor] = ()) -> int:
        """Bytes so far, without tensors that share their storage with `beside`."""
        left_out = {storage_key(value) for value in beside}
        return held_bytes(value for value in self._tensors if storage_key(value) not in left_out)


def held_bytes(tensors: Iterator[Tensor] | Sequence[Tensor]) -> int:
    """Bytes of the storages behind tensors, each storage once."""
    return sum({storage_key(value): value.untyped_storage().nbytes() for value in tensors}.values())


def _identity(value: Tensor) -> Tensor:
    return value
