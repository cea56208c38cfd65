"""In which order the modules of a model are called in a forward and in a backward pass.

    with recorded(model) as called:
        ...                                        # a forward pass
    steps = both_passes(called, checkpointed=False)

ZeRO-3 gathers weights in this order; parts of the model without parameters take their turns
in it as well, and at each turn weights are gathered ahead.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import nn

from parallel.planning.zero import Step

Call = tuple[str, tuple[str, ...]]
"""Name of a module and names of its own parameters."""


@contextmanager
def recorded(model: nn.Module) -> Generator[list[Call], None, None]:
    """Note the calls of a model's modules, in order, within the block."""
    called: list[Call] = []

    def noting(call: Call) -> None:
        called.append(call)

    handles = [
        module.register_forward_pre_hook(lambda *_, call=call: noting(call))
        for call, module in _calls(model)
    ]
    try:
        yield called
    finally:
        for handle in handles:
            handle.remove()


def _calls(model: nn.Module) -> Iterator[tuple[Call, nn.Module]]:
    for prefix, module in model.named_modules():
        own = (name for name, _ in module.named_parameters(recurse=False))
        yield (prefix, tuple(f"{prefix}.{name}" for name in own)), module


def both_passes(called: Sequence[Call], *, checkpointed: bool) -> tuple[Step, ...]:
    """The turns of all modules in a forward pass that was recorded, and in its backward pass.

    Args:
        called: Calls in order, the model's own first.
        checkpointed: Whether blocks are computed again in the backward pass.
    """
    root = _tree(called)
    return (*root.forward(), *root.backward(checkpointed=checkpointed))


@dataclass(kw_only=True)
class _Node:
    """A call of a module, and those made within it."""

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
            return self._computed_again()
        backwards = reversed(self.within)
        return self._around(
            [step for node in backwards for step in node.backward(checkpointed=checkpointed)]
        )

    def _around(self, steps: list[Step]) -> list[Step]:
        """Its parameters are wanted before those of the calls within, and let go of after."""
        first = Step(wanted=self.parameters)
        steps = [first, *steps]
        last = steps[-1]
        steps[-1] = Step(wanted=last.wanted, let_go=(*last.let_go, *self.parameters))
        return steps

    def _computed_again(self) -> list[Step]:
        """The first gradient that needs what was not saved has the block computed once more.

        That ends where the last saved tensor is found: within the module that began it.
        """
        number = max(i for i, node in enumerate(self.within) if node.parameters)
        begins, before = self.within[number], self.within[:number]
        own = Step(wanted=self.parameters)
        return [
            own,
            *(step for node in reversed(self.within[number + 1 :]) for step in node.forward()),
            Step(wanted=begins.parameters),
            own,
            *(step for node in before for step in node.forward()),
            Step(wanted=begins.parameters, let_go=begins.parameters),
            *(step for node in reversed(before) for step in node.forward()),
        ]


def _tree(called: Sequence[Call]) -> _Node:
    name, parameters = called[0]
    root = _Node(name=name, parameters=parameters)
    path = [root]
    for name, parameters in called[1:]:
        while path[-1].name and not name.startswith(f"{path[-1].name}."):
            path.pop()
        node = _Node(name=name, parameters=parameters)
        path[-1].within.append(node)
        path.append(node)
    return root
