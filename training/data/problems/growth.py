"""Grows a graph of quantities until one of them needs exactly the given number of operations.

`grow` adds the quantities that the answer needs, `distract` adds irrelevant ones, and `needed`
returns the former. `counts` and `amounts` decide which operations fit where.
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
# Nothing is computed from the results of these.
_LAST: dict[str, _Unary] = {"share": amounts.share, "change": amounts.change}
# Their results can only be joined with the same kind, be paid for, or be the answer.
_AMOUNTS = ("unit_price", "pack_price", "group", "pace")
_JOINS = ("sum", "difference")
OPERATIONS: tuple[str, ...] = (*_SOURCES, *_UNARY, *_LAST, *_JOINS)
"""The names of all operations."""
_MAX_MISSES = 30


def grow(graph: Graph, num_operations: int, names: tuple[str, ...]) -> Quantity | None:
    """A new quantity that needs `num_operations`; None if this attempt failed.

    `ends` are the quantities that no other one depends on yet. All ends but one must still be
    joined in pairs, so that `spare` operations are left for anything else.
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
    """The probability that the next quantity is of a new thing."""
    if len(ends) > 2:
        return 0.0
    # An amount can hardly be used but by joining it with another one.
    return 0.4 if len(ends) == 1 and left > 2 and ends[0].measure else 0.1


def _start(graph: Graph, spare: int, names: tuple[str, ...]) -> Quantity | None:
    """A new thing's quantity: given, or computed if an operation can be spared for it."""
    name = graph.draw.pick(names)
    if spare > 0 and name in _SOURCES:
        return _SOURCES[name](graph)
    return counts.given(graph)


def _step(
    graph: Graph, ends: list[Quantity], left: int, spare: int, names: tuple[str, ...]
) -> tuple[Quantity | None, tuple[Quantity, ...]]:
    """Try one operation on an end; returns the new quantity and the ends it used."""
    base, name = graph.draw.pick(ends), graph.draw.pick(names)
    if len(ends) > 1:
        chance = graph.draw.random()
        if chance < 0.4:  # Ends of the same operation can be joined with each other.
            name = graph.draw.pick(ends).operation
        elif chance < 0.6:  # Otherwise joins would be the last steps of all problems.
            name = "sum"
    elif name == "sum" and graph.draw.random() < 0.4:
        return None, ()  # A sum fits nearly always, and would be every other operation.
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
        base, other = other, base  # Three are added from left to right, as in the text.
    if graph.draw.random() < 0.5:
        return counts.as_many(graph, base, other)
    return counts.together(graph, base, other)


def distract(graph: Graph, answer: Quantity, num_facts: int, names: tuple[str, ...]) -> bool:
    """Add facts that the answer does not need; returns whether it has exactly `num_facts` now."""
    kept = needed(answer)
    spare = sum(1 for quantity in graph.quantities if quantity.fact and quantity not in kept)
    misses = 0
    while spare < num_facts and misses < _MAX_MISSES:
        name = graph.draw.pick(names)
        if graph.draw.random() < 0.3:
            made = counts.given(graph)
        elif name in _SOURCES:
            made = _SOURCES[name](graph)
        elif name in _UNARY:
            made = _UNARY[name](graph, graph.draw.pick(graph.quantities))
        else:
            made = None
        is_stated = made is not None and bool(made.fact or made.operation == "unit_price")
        spare += is_stated
        misses += not is_stated
    return spare == num_facts


def needed(answer: Quantity) -> list[Quantity]:
    """The quantities that an answer depends on, parents first, the answer itself last."""
    order: list[Quantity] = []

    def visit(quantity: Quantity) -> None:
        if quantity not in order:
            for parent in quantity.parents:
                visit(parent)
            order.append(quantity)

    visit(answer)
    return order
