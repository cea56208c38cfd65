"""Adds measures of counted things to a graph: containers, equal parts, costs, time, totals.

As in `counts`, each operation returns the new quantity, or None if it makes no sense.
"""

from training.data.problems import wording
from training.data.problems.graph import Graph, Quantity
from training.data.problems.words import Measure, identifier, join


def _divisors(base: Quantity) -> list[int]:
    """Numbers that divide a count into equal parts of more than one thing."""
    if not base.things:
        return []
    return [n for n in range(2, 13) if base.value % n == 0 and base.value // n > 1]


def _words(base: Quantity) -> dict[str, str]:
    """The counted things as sentences name them."""
    return {
        "the": wording.the(base.things, base.part),
        "these": wording.these(base.things, base.part),
        "each": wording.each(base.things, base.part),
    }


def _measure(
    graph: Graph,
    measure: Measure,
    expression: str,
    value: int | float,
    operation: str,
    fact: str,
    subject: str,
    *parents: Quantity,
) -> Quantity:
    return graph.add(
        Quantity(
            variable=f"{parents[0].stem}_{measure.suffix}",
            expression=expression,
            value=value,
            operation=operation,
            parents=parents,
            fact=fact,
            question=f"how many {measure.unit} did {subject} {measure.base}",
            measure=measure,
            subjects=(subject,),
        )
    )


def group(graph: Graph, base: Quantity) -> Quantity | None:
    """How many containers the things fill."""
    sizes = _divisors(base)
    if not sizes or not graph.claim(base.things, "group"):
        return None
    size, box, words = graph.draw.pick(sizes), graph.container, _words(base)
    fact = graph.phrase(wording.GROUP).format(
        **words, packed=graph.story.packed, boxes=box.many, box=box.one, k=size
    )
    measure = Measure("filled", "fill", box.many, identifier(box.many))
    expression = f"{base.variable} // {size}"
    return _measure(
        graph, measure, expression, base.value // size, "group", fact, words["the"], base
    )


def share(graph: Graph, base: Quantity) -> Quantity | None:
    """How many each of several places gets."""
    numbers = _divisors(base)
    if not numbers or not graph.claim(base.things, "share"):
        return None
    num, place, words = graph.draw.pick(numbers), graph.place, _words(base)
    return graph.add(
        Quantity(
            variable=f"{base.stem}_per_{identifier(place.one)}",
            expression=f"{base.variable} // {num}",
            value=base.value // num,
            operation="share",
            parents=(base,),
            fact=graph.phrase(wording.SHARE).format(**words, k=num, places=place.many),
            question=f"how many of {words['these']} did each {place.one} get",
        )
    )


def unit_price(graph: Graph, base: Quantity) -> Quantity | None:
    """What the things cost (or weighed, ...) at so much each."""
    measure = graph.measure
    amount: int | float = graph.draw.between(2, 9)
    if graph.decimals and measure.unit == "dollars":
        # Quarters are exact in binary, so answers are too.
        amount += graph.draw.pick((0.25, 0.5, 0.75))
    if not base.things or not graph.fits(base.value * amount):
        return None
    if not graph.claim(base.things, measure.suffix):
        return None
    words = _words(base)
    fact = graph.phrase(wording.EACH).format(
        **words, past=measure.past, k=amount, unit=measure.unit
    )
    expression, value = f"{base.variable} * {amount}", base.value * amount
    return _measure(graph, measure, expression, value, "unit_price", fact, words["the"], base)


def pack_price(graph: Graph, base: Quantity) -> Quantity | None:
    """What the things cost when the price of several is stated: two operations."""
    measure, amount = graph.measure, graph.draw.between(2, 9)
    num = graph.draw.between(2, 8)
    if not base.things or base.value <= num or not graph.fits(base.value * amount):
        return None
    if not graph.claim(base.things, measure.suffix):
        return None
    words = _words(base)
    fact = graph.phrase(wording.FOR_EVERY).format(
        **words, past=measure.past, k=num * amount, n=num, unit=measure.unit
    )
    price = graph.add(
        Quantity(
            variable=f"{base.stem}_{measure.suffix}_each",
            expression=f"{num * amount} // {num}",
            value=amount,
            operation="pack_price",
            parents=(),
            fact=fact,
            question="",
            misread=f"{num * amount}",  # As if the price of several were that of one.
        )
    )
    expression, value = f"{base.variable} * {price.variable}", base.value * amount
    return _measure(graph, measure, expression, value, "unit_price", "", words["the"], base, price)


def pace(graph: Graph, base: Quantity) -> Quantity | None:
    """How long some work on the things takes at so many a minute."""
    paces, work = _divisors(base), graph.story.work
    if not paces or not graph.claim(base.things, "pace"):
        return None
    num, words = graph.draw.pick(paces), _words(base)
    fact = graph.phrase(wording.PACE).format(
        **words, gerund=work.gerund, done=work.past, k=num, minute=work.unit.one
    )
    measure = Measure("took", "take", work.unit.many, identifier(work.unit.many))
    expression, value = f"{base.variable} // {num}", base.value // num
    subject = f"{work.gerund} {words['the']}"
    return _measure(graph, measure, expression, value, "pace", fact, subject, base)


def change(graph: Graph, base: Quantity) -> Quantity | None:
    """What is left of someone's money after paying."""
    if not base.measure or base.measure.suffix != "cost":
        return None
    money = (int(base.value) // 10 + graph.draw.between(1, 5)) * 10
    if not graph.fits(money):
        return None
    payer, the, unit = graph.payer, join(base.subjects), base.measure.unit
    fact = graph.phrase(wording.PAID).format(payer=payer, the=the, n=money, unit=unit)
    return graph.add(
        Quantity(
            variable=f"{unit}_left",
            expression=f"{money} - {base.variable}",
            value=money - base.value,
            operation="change",
            parents=(base,),
            fact=fact,
            question=f"how many {unit} did {payer} have left after paying for {the}",
        )
    )


def together(graph: Graph, base: Quantity, other: Quantity) -> Quantity | None:
    """Two amounts of the same kind together."""
    subjects, value = base.subjects + other.subjects, base.value + other.value
    if not base.measure or len(subjects) > 3 or not graph.fits(value):
        return None
    measure = base.measure
    stems = (q.variable.removesuffix(f"_{measure.suffix}") for q in (base, other))
    return graph.add(
        Quantity(
            variable="_and_".join(stems) + f"_{measure.suffix}",
            expression=f"{base.variable} + {other.variable}",
            value=value,
            operation="sum",
            parents=(base, other),
            fact="",
            question=f"how many {measure.unit} did {join(subjects)} {measure.base} in total",
            measure=measure,
            subjects=subjects,
        )
    )


def difference(graph: Graph, base: Quantity, other: Quantity) -> Quantity | None:
    """How many more of one than of the other."""
    large, small = (base, other) if base.value > other.value else (other, base)
    if large.value == small.value:
        return None
    return graph.add(
        Quantity(
            variable="difference",
            expression=f"{large.variable} - {small.variable}",
            value=large.value - small.value,
            operation="difference",
            parents=(large, small),
            fact="",
            question=wording.ask_difference(graph, large, small),
        )
    )
