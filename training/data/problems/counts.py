"""Adds counts of things to a graph, one operation each.

An operation returns the new quantity, or None if it makes no sense (not divisible, too large,
stated already, nobody left for another fact). Facts are static (nothing changes over time), so
they may be stated in any order.
"""

from training.data.problems import wording
from training.data.problems.graph import Graph, Quantity, Thing
from training.data.problems.words import FRACTIONS, TIMES, identifier

PERCENTS = (10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90)
# Round numbers are common in word problems, and divisible.
_ROUND = tuple(n for n in range(4, 10_000) if n % 12 == 0 or n % 10 == 0)


def _words(graph: Graph, thing: Thing) -> dict[str, str]:
    return {
        "s": thing.holder,
        "items": thing.item.many,
        "past": graph.story.past,
        "count": wording.number((thing,)),
        "mine": wording.label((thing,)),
        "mine_all": wording.these((thing,)),
        "box": graph.container.one,
        "boxes": graph.container.many,
        "hour": graph.story.time.one,
        "hours": graph.story.time.many,
    }


def _count(
    graph: Graph,
    thing: Thing,
    expression: str,
    value: int,
    operation: str,
    fact: str,
    *parents: Quantity,
    misread: str = "",
) -> Quantity:
    item = identifier(thing.item.many)
    return graph.add(
        Quantity(
            variable=f"{thing.stem}_{item}" if graph.by_person else item,
            expression=expression,
            value=value,
            operation=operation,
            parents=parents,
            fact=fact,
            question=wording.ask_count(graph, (thing,)),
            things=(thing,),
            misread=misread,
        )
    )


def given(graph: Graph) -> Quantity | None:
    """A new thing, its number stated."""
    if not graph.free:
        return None
    thing, most = graph.free.pop(), graph.max_given
    if graph.draw.random() < 0.5:
        value = graph.draw.pick([n for n in _ROUND if n <= most])
    else:
        value = graph.draw.between(3, most)
    fact = graph.phrase(wording.GIVEN).format(n=value, **_words(graph, thing))
    return _count(graph, thing, str(value), value, "given", fact)


def rate(graph: Graph) -> Quantity | None:
    """A new thing, so many every hour for some hours."""
    pace, time = graph.draw.between(2, 12), graph.draw.between(2, 8)
    if not graph.free or not graph.fits(pace * time):
        return None
    thing = graph.free.pop()
    fact = graph.phrase(wording.RATE).format(k=pace, n=time, **_words(graph, thing))
    return _count(graph, thing, f"{pace} * {time}", pace * time, "rate", fact)


def product(graph: Graph) -> Quantity | None:
    """A new thing, so many containers of so many."""
    size, boxes = graph.draw.between(2, 12), graph.draw.between(2, 9)
    if not graph.free or not graph.fits(size * boxes):
        return None
    if not graph.claim((graph.free[-1],), "group"):
        return None
    thing = graph.free.pop()
    fact = graph.phrase(wording.PRODUCT).format(k=size, n=boxes, **_words(graph, thing))
    return _count(graph, thing, f"{boxes} * {size}", boxes * size, "product", fact)


def _compared(
    graph: Graph,
    base: Quantity,
    ways: wording.Comparison,
    expression: str,
    value: int,
    operation: str,
    misread: str,
    turned: str = "",
    **words: object,
) -> Quantity | None:
    """A new thing whose number is stated by a comparison with another count.

    `turned` is the comparison from the other side, if it can be stated so; `misread` then applies
    only to a fact stated that way.
    """
    if not graph.free or not base.things or value < 2 or not graph.fits(value):
        return None
    options = (*ways.named, ways.number)
    if base.part:
        options = (ways.number,)
    elif (
        turned
        and len(base.things) == 1
        and graph.draw.random() < graph.reversed_comparison_fraction
    ):
        options = (ways.turned,)
    if turned and options != (ways.turned,):
        misread = ""
    thing = graph.free.pop()
    fact = graph.phrase(options).format(
        other=wording.label(base.things),
        number=wording.number(base.things, base.part),
        other_s=base.things[0].holder,
        other_items=base.things[0].item.many,
        turned=turned,
        **_words(graph, thing),
        **words,
    )
    return _count(graph, thing, expression, value, operation, fact, base, misread=misread)


def more(graph: Graph, base: Quantity) -> Quantity | None:
    """A new thing, k more than another count."""
    return _more_or_fewer(graph, base, 1)


def fewer(graph: Graph, base: Quantity) -> Quantity | None:
    """A new thing, k fewer than another count."""
    return _more_or_fewer(graph, base, -1)


def _more_or_fewer(graph: Graph, base: Quantity, sign: int) -> Quantity | None:
    step = graph.draw.between(2, min(30, graph.max_given))
    name, turned = ("more", "fewer") if sign > 0 else ("fewer", "more")
    expression, misread = (
        f"{base.variable} {operator} {step}" for operator in ("+-" if sign > 0 else "-+")
    )
    value = int(base.value) + sign * step
    return _compared(
        graph, base, wording.MORE, expression, value, name, misread, turned, k=step, more=name
    )


def times(graph: Graph, base: Quantity) -> Quantity | None:
    """A new thing, so many times as many as another count."""
    factor = graph.draw.pick((2, 2, 2, 3, 3, 4, 5))
    expression, value = f"{base.variable} * {factor}", int(base.value) * factor
    words = TIMES[factor]
    return _compared(
        graph,
        base,
        wording.TIMES,
        expression,
        value,
        "times",
        f"{base.variable} // {factor}",
        FRACTIONS[1, factor],
        times=words,
        times_of=words,
    )


def fraction(graph: Graph, base: Quantity) -> Quantity | None:
    """A fraction: of another thing's count, or a part of the things."""
    choices = [pair for pair in FRACTIONS if base.value % pair[1] == 0]
    if not choices:
        return None
    top, bottom = graph.draw.pick(choices)
    times_top = f" * {top}" if top > 1 else ""
    expression = f"{base.variable}{times_top} // {bottom}"
    value, words = int(base.value) * top // bottom, FRACTIONS[top, bottom]
    if graph.draw.random() < 0.5:
        return _part(graph, base, words, expression, value, "fraction")
    words_of = words if bottom == 2 else f"{words} of"
    return _compared(
        graph,
        base,
        wording.TIMES,
        expression,
        value,
        "fraction",
        f"{base.variable} * {bottom}" if top == 1 else "",
        TIMES[bottom] if top == 1 else "",
        times=words,
        times_of=words_of,
    )


def percentage(graph: Graph, base: Quantity) -> Quantity | None:
    """A percentage: a part of the things, or so much more than another count."""
    choices = [percent for percent in PERCENTS if base.value * percent % 100 == 0]
    if not choices:
        return None
    percent = graph.draw.pick(choices)
    share, value = f"{base.variable} * {percent} // 100", int(base.value) * percent // 100
    if graph.draw.random() < 0.6:
        return _part(graph, base, f"{percent} percent", share, value, "percentage")
    sign, name, larger = graph.draw.pick((("+", "more", "larger"), ("-", "fewer", "smaller")))
    value = int(base.value) + (value if sign == "+" else -value)
    return _compared(
        graph,
        base,
        wording.PERCENT_MORE,
        f"{base.variable} {sign} {share}",
        value,
        "percentage",
        share,  # As if `25 percent more than` were `25 percent of`.
        k=percent,
        more=name,
        larger=larger,
    )


def _part(
    graph: Graph, base: Quantity, words: str, expression: str, value: int, operation: str
) -> Quantity | None:
    if not base.things or base.part or value < 2 or not graph.claim(base.things, "part"):
        return None
    fact = graph.phrase(wording.PART).format(
        share=words, the=wording.the(base.things), part=graph.part
    )
    return graph.add(
        Quantity(
            variable=f"{base.stem}_{identifier(graph.part)}",
            expression=expression,
            value=value,
            operation=operation,
            parents=(base,),
            fact=fact,
            question=wording.ask_count(graph, base.things, graph.part),
            things=base.things,
            part=graph.part,
        )
    )


def remainder(graph: Graph, base: Quantity) -> Quantity | None:
    """The things that do not belong to a part, of which the number may be stated."""
    if not base.things:
        return None
    if base.part:
        whole = next((parent for parent in base.parents if not parent.part), None)
        if base.part != graph.part or whole is None:
            return None
        fact, taken, value = "", base.variable, int(whole.value - base.value)
        parents = (whole, base)
    else:
        amount = graph.draw.between(2, max(2, int(base.value) - 2))
        whole, taken, value = base, str(amount), int(base.value) - amount
        fact = graph.phrase(wording.PART).format(
            share=amount, the=wording.the(base.things), part=graph.part
        )
        parents = (base,)
    if value < 2 or not graph.claim(base.things, "rest" if base.part else "part"):
        return None
    rest = f"not {graph.part}"
    return graph.add(
        Quantity(
            variable=f"{whole.stem}_{identifier(rest)}",
            expression=f"{whole.variable} - {taken}",
            value=value,
            operation="remainder",
            parents=parents,
            fact=fact,
            question=wording.ask_count(graph, base.things, rest),
            things=base.things,
            part=rest,
        )
    )


def as_many(graph: Graph, base: Quantity, other: Quantity) -> Quantity | None:
    """A new thing, as many as two others together."""
    things, value = base.things + other.things, int(base.value + other.value)
    if not graph.free or not base.things or len(things) > 3 or not graph.fits(value):
        return None
    thing, ways = graph.free.pop(), wording.AS_MANY
    fact = graph.phrase((ways.number,) if base.part else (*ways.named, ways.number)).format(
        other=wording.label(things),
        number=wording.number(things, base.part),
        **_words(graph, thing),
    )
    expression = f"{base.variable} + {other.variable}"
    return _count(graph, thing, expression, value, "sum", fact, base, other)


def together(graph: Graph, base: Quantity, other: Quantity) -> Quantity | None:
    """Two counts together, stated by their names alone."""
    things, value = base.things + other.things, base.value + other.value
    if not base.things or len(things) > 3 or not graph.fits(value):
        return None
    stem = "_and_".join(thing.stem for thing in things)
    return graph.add(
        Quantity(
            variable=f"{stem}_{identifier(base.part)}" if base.part else stem,
            expression=f"{base.variable} + {other.variable}",
            value=value,
            operation="sum",
            parents=(base, other),
            fact="",
            question=wording.ask_count(graph, things, base.part),
            things=things,
            part=base.part,
        )
    )
