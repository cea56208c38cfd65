"""The order in which the forward and backward passes use a model's modules.

    with recorded_calls(model) as calls:
        ...                                        # a forward pass
    steps = both_passes(calls, checkpointed=False)

ZeRO-3 gathers weights in this order. Modules without parameters have their steps in it as well:
ZeRO-3 prefetches weights at each.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import nn

from parallel.planning.zero import Step

Call = tuple[str, tuple[str, ...]]
"""Name of a module and names of its own parameters."""


@contextmanager
def recorded_calls(model: nn.Module) -> Generator[list[Call], None, None]:
    """Record the calls of a model's modules, in order, within the block."""
    calls: list[Call] = []

    def record(call: Call) -> None:
        calls.append(call)

    handles = [
        module.register_forward_pre_hook(lambda *_, call=call: record(call))
        for call, module in _calls(model)
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _calls(model: nn.Module) -> Iterator[tuple[Call, nn.Module]]:
    for prefix, module in model.named_modules():
        own = (name for name, _ in module.named_parameters(recurse=False))
        yield (prefix, tuple(f"{prefix}.{name}" for name in own)), module


def both_passes(calls: Sequence[Call], *, checkpointed: bool) -> tuple[Step, ...]:
    """The steps of all modules in a recorded forward pass and in its backward pass.

    Args:
        calls: In order, the model's own first.
        checkpointed: Whether blocks are recomputed in the backward pass.
    """
    root = _tree(calls)
    return (*root.forward(), *root.backward(checkpointed=checkpointed))


@dataclass(kw_only=True)
class _Node:
    """A call of a module, and the calls made within it."""

    name: str
    parameters: tuple[str, ...]
    within: "list[_Node]" = field(default_factory=list["_Node"])

    @property
    def is_block(self) -> bool:
        return self.name.startswith("body.blocks.") and self.name.count(".") == 2

    def forward(self) -> list[Step]:
        steps = [step for node in self.within for step in node.forward()]
        return self._around(steps)

    def backward(self, *, checkpointed: bool) -> list[Step]:
        if checkpointed and self.is_block:
            return self._recomputed()
        backwards = reversed(self.within)
        return self._around(
            [step for node in backwards for step in node.backward(checkpointed=checkpointed)]
        )

    def _around(self, steps: list[Step]) -> list[Step]:
        """Its parameters are needed before those of the inner calls, and released after them."""
        first = Step(needed=self.parameters)
        steps = [first, *steps]
        last = steps[-1]
        steps[-1] = Step(needed=last.needed, released=(*last.released, *self.parameters))
        return steps

    def _recomputed(self) -> list[Step]:
        """The first gradient that needs a tensor that was not saved has the block recomputed.

        Recomputation stops once all saved tensors exist again: within the module whose backward
        pass started it.
        """
        number = max(i for i, node in enumerate(self.within) if node.parameters)
        begins, before = self.within[number], self.within[:number]
        own = Step(needed=self.parameters)
        return [
            own,
            *(step for node in reversed(self.within[number + 1 :]) for step in node.forward()),
            Step(needed=begins.parameters),
            own,
            *(step for node in before for step in node.forward()),
            Step(needed=begins.parameters, released=begins.parameters),
            *(step for node in reversed(before) for step in node.forward()),
        ]


def _tree(calls: Sequence[Call]) -> _Node:
    name, parameters = calls[0]
    root = _Node(name=name, parameters=parameters)
    path = [root]
    for name, parameters in calls[1:]:
        while path[-1].name and not name.startswith(f"{path[-1].name}."):
            path.pop()
        node = _Node(name=name, parameters=parameters)
        path[-1].within.append(node)
        path.append(node)
    return root
