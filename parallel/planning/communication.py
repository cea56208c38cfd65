"""What a rank sends and what autograd saves, counted while real code runs.

    exchanges, saved = Exchanges(), Saved(model)
    with exchanges, saved.counted():
        ...                                 # a step, or the forward pass of a micro-batch
    exchanges.seen, saved.num_bytes()

Both work on tensors with values and without, over real process groups and pretended ones.
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
    """Something the ranks of a group do together, seen from one of them."""

    operation: str
    """`all-reduce`, `all-gather`, `reduce-scatter`, `broadcast` or `send`."""
    num_bytes: int
    """The whole of it: what is summed, what the parts make together, what is sent."""
    ranks: tuple[int, ...]
    """The group; of a `send` it is the one both ranks are in."""


def sent_bytes(operation: str, num_bytes: int, num_ranks: int) -> int:
    """Bytes that each rank sends when `num_ranks` exchange `num_bytes` around a ring.

    An all-reduce is a reduce-scatter and an all-gather, in each of which every part goes
    past all ranks but one (arXiv 1802.05799, section 2).
    """
    if num_ranks == 1:
        return 0
    if operation in ("send", "broadcast"):
        return num_bytes
    passes = 2 if operation == "all-reduce" else 1
    return passes * (num_ranks - 1) * num_bytes // num_ranks


class Exchanges(TorchDispatchMode):
    """Notes every collective and every send within the block, in `seen`.

    Those of a group of one rank are left out: nothing leaves the rank.
    """

    _WHOLE = {
        "allreduce_": ("all-reduce", 0),
        "allgather_": ("all-gather", 0),
        "_allgather_base_": ("all-gather", 0),
        "reduce_scatter_": ("reduce-scatter", 1),
        "_reduce_scatter_base_": ("reduce-scatter", 1),
        "broadcast_": ("broadcast", 0),
        "send": ("send", 0),
    }
    """torch's operators: what they are, and which argument holds the whole."""
    _SENDS_NOTHING = ("recv_", "barrier")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Exchange] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            self._note(func.__name__.split(".")[0], args)
        return func(*args, **(kwargs or {}))

    def _note(self, name: str, arguments: Sequence[Any]) -> None:
        if name in self._SENDS_NOTHING:
            return
        operation, position = self._WHOLE[name]
        group = next(found for found in map(_process_group, arguments) if found is not None)
        ranks = tuple(dist.get_process_group_ranks(group))
        if len(ranks) > 1:
            num_bytes = sum(value.nbytes for value in _tensors(arguments[position]))
            self.seen.append(Exchange(operation=operation, num_bytes=num_bytes, ranks=ranks))


def _process_group(value: Any) -> ProcessGroup | None:
    if isinstance(value, torch.ScriptObject):
        with contextlib.suppress(RuntimeError):  # the kind of a reduction is boxed alike
            return ProcessGroup.unbox(value)
    return None


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    else:
        for inner in value:
            yield from _tensors(inner)


class Saved:
    """What autograd saves for the backward pass: each storage once, parameters left out."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        # The tensors themselves: a freed storage's address would soon be another one's.
        self._tensors: list[Tensor] = []

    @contextmanager
    def counted(self) -> Generator[None, None, None]:
        """Count what the block saves."""
        with torch.autograd.graph.saved_tensors_hooks(self._note, _as_it_is):
            yield

    def _note(self, value: Tensor) -> Tensor:
        # Asked each time: under ZeRO-3 a parameter's storage comes and goes.
        own = {storage_key(parameter) for parameter in self._model.parameters()}
        if storage_key(value) not in own:
            self._tensors.append(value)
        return value

    def num_bytes(self, *, beside: Sequence[Tensor] = ()) -> int:
        """Bytes so far, but for what shares its storage with `beside`."""
        left_out = {storage_key(value) for value in beside}
        return held_bytes(value for value in self._tensors if storage_key(value) not in left_out)


def held_bytes(tensors: Iterator[Tensor] | Sequence[Tensor]) -> int:
    """Bytes of the storages behind tensors, each storage once."""
    return sum({storage_key(value): value.untyped_storage().nbytes() for value in tensors}.values())


def _as_it_is(value: Tensor) -> Tensor:
    return value
