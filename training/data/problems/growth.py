"""Grows a graph of quantities until one of them needs exactly so many operations.

`grow` makes what the answer needs, `distract` adds what it does not, `needed` tells
the two apart. Which operations fit where is decided in `counts` and `amounts`.
"""

from collections.abc import Callable

from training.data.problems import amounts, counts
from training.data.problems.graph import Graph, Quantity

_Unary = Callable[[Graph, Quantity], Quantity | None]
_Source = Callable[[Graph], Quantity | None]

_SOURCES: dict[str, _Source] = {"rate": counts.rate, "product": counts.product}
_UNARY: dict[str, _Unary] = {
    "more": counts.more,
    "fewer": counts.fewer,
    "times": counts.times,
    "fraction": counts.fraction,
    "percentage": counts.percentage,
    "remainder": counts.remainder,
    "unit_price": amounts.unit_price,
    "group": amounts.group,
    "pace": amounts.pace,
    "pack_price": amounts.pack_price,
}
# What these give is not built on further.
_LAST: dict[str, _Unary] = {"share": amounts.share, "change": amounts.change}
# What these give can only be joined with its like, paid for, or asked for.
_AMOUNTS = ("unit_price", "pack_price", "group", "pace")
_JOINS = ("sum", "difference")
OPERATIONS: tuple[str, ...] = (*_SOURCES, *_UNARY, *_LAST, *_JOINS)
"""The names of all operations."""
_MAX_MISSES = 30


def grow(graph: Graph, num_operations: int, names: tuple[str, ...]) -> Quantity | None:
    """A new quantity that needs so many operations; None when it went astray.

    `ends` are the quantities that nothing needs yet. All ends but one must still be
    joined in pairs, so `spare` operations are left for anything else.
    """
    ends: list[Quantity] = []
    left, misses = num_operations, 0
    while left or len(ends) != 1:
        spare = left - max(0, len(ends) - 1)
        if spare < 0 or misses > _MAX_MISSES:
            return None
        made, used = None, ()
        if not ends or (spare > 0 and graph.draw.random() < _branching(ends, left)):
            made = _start(graph, spare - bool(ends), names)
        else:
            made, used = _step(graph, ends, left, spare, names)
        if made is None:
            misses += 1
            continue
        ends = [end for end in ends if end not in used] + [made]
        left -= _cost(made)
    return ends[0]


def _cost(made: Quantity) -> int:
    """Operations that came with a new quantity: a pack's price comes with its total."""
    if made.operation == "given":
        return 0
    return 1 + sum(parent.operation == "pack_price" for parent in made.parents)


def _branching(ends: list[Quantity], left: int) -> float:
    """How likely a new thing is told of next."""
    if len(ends) > 2:
        return 0.0
    # Nothing much can follow an amount but to join it with another.
    return 0.4 if len(ends) == 1 and left > 2 and ends[0].measure else 0.1


def _start(graph: Graph, spare: int, names: tuple[str, ...]) -> Quantity | None:
    """A new thing, given, or computed where an operation can be spared for it."""
    name = graph.draw.pick(names)
    if spare > 0 and name in _SOURCES:
        return _SOURCES[name](graph)
    return counts.given(graph)


def _step(
    graph: Graph, ends: list[Quantity], left: int, spare: int, names: tuple[str, ...]
) -> tuple[Quantity | None, tuple[Quantity, ...]]:
    """Try one operation on an end; gives what it made and which ends it took."""
    base, name = graph.draw.pick(ends), graph.draw.pick(names)
    if len(ends) > 1:
        chance = graph.draw.random()
        if chance < 0.4:  # What made one end also makes the other joinable with it.
            name = graph.draw.pick(ends).operation
        elif chance < 0.6:  # Left to the end, joins would be the last step of all problems.
            name = "sum"
    elif name == "sum" and graph.draw.random() < 0.4:
        return None, ()  # A sum fits nearly always: every other one would be a sum.
    elif name in _AMOUNTS and left > 2 and graph.draw.random() < 0.7:
        return None, ()  # Too early: little can follow an amount.
    if spare == 0 and name not in _JOINS:
        name = "sum" if left > 1 or graph.draw.random() < 0.5 else "difference"
    if name not in names:
        return None, ()
    if name in _JOINS:
        if name == "difference" and (left > 1 or len(ends) > 2):
            return None, ()
        other = _partner(graph, base, ends, joining=spare == 0)
        return (_join(graph, name, base, other), (base, other)) if other else (None, ())
    last = left == 1 and len(ends) == 1
    if name in _SOURCES or (name in _LAST and not last) or (name == "pack_price" and spare < 2):
        return None, ()
    return (_LAST[name] if name in _LAST else _UNARY[name])(graph, base), (base,)


def _partner(
    graph: Graph, base: Quantity, ends: list[Quantity], *, joining: bool
) -> Quantity | None:
    """Another quantity to add to this one or to compare it with."""
    among = ends if joining or graph.draw.random() < 0.5 else graph.quantities
    likes = [quantity for quantity in among if quantity.is_like(base)]
    if likes:
        return graph.draw.pick(likes)
    return counts.given(graph) if base.things and not base.part and not joining else None


def _join(graph: Graph, name: str, base: Quantity, other: Quantity) -> Quantity | None:
    if name == "difference":
        return amounts.difference(graph, base, other)
    if base.measure:
        return amounts.together(graph, base, other)
    if len(other.things) > len(base.things):
        base, other = other, base  # Three are added from left to right, as they are told.
    if graph.draw.random() < 0.5:
        return counts.as_many(graph, base, other)
    return counts.together(graph, base, other)


def distract(graph: Graph, asked: Quantity, wanted: int, names: tuple[str, ...]) -> bool:
    """Add facts that the asked quantity does not need; whether there are as many as wanted."""
    kept = needed(asked)
    spare = sum(1 for quantity in graph.quantities if quantity.fact and quantity not in kept)
    misses = 0
    while spare < wanted and misses < _MAX_MISSES:
        name = graph.draw.pick(names)
        if graph.draw.random() < 0.3:
            made = counts.given(graph)
        elif name in _SOURCES:
            made = _SOURCES[name](graph)
        elif name in _UNARY:
            made = _UNARY[name](graph, graph.draw.pick(graph.quantities))
        else:
            made = None
        told = made is not None and bool(made.fact or made.operation == "unit_price")
        spare += told
        misses += not told
    return spare == wanted


def needed(asked: Quantity) -> list[Quantity]:
    """The quantities an answer depends on, parents first, itself last."""
    order: list[Quantity] = []

    def visit(quantity: Quantity) -> None:
        if quantity not in order:
            for parent in quantity.parents:
                visit(parent)
            order.append(quantity)

    visit(asked)
    return order
