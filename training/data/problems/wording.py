"""The sentences: how each relation between quantities is told and asked.

One grammar for all kinds of stories. Each relation has several wordings, the plainest
first; `Graph.phrase` draws among the first few. Numbers are written as digits except
half, third, quarter, fifth and twice.
"""

from dataclasses import dataclass

from training.data.problems.graph import Graph, Quantity, Thing
from training.data.problems.words import join


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Ways to tell a count by another one."""

    named: tuple[str, ...]
    """Name the other one in a word: `more muffins than rolls`."""
    number: str
    """Spells the other one out, also where it is a part: `the number of rolls that were sold`."""
    turned: str = ""
    """Has the other one for its subject: `5 fewer rolls than muffins`."""


GIVEN = (
    "{s} {past} {n} {items}",
    "in all, {n} {items} were {past} by {s}",
    "the number of {items} {s} {past} was {n}",
    "there were {n} {items} that {s} {past}",
)
MORE = Comparison(
    named=(
        "{s} {past} {k} {more} {items} than {other}",
        "compared with {other}, {s} {past} {k} {more} {items}",
    ),
    number="the number of {items} {s} {past} was {k} {more} than {number}",
    turned="{other_s} {past} {k} {turned} {other_items} than {mine}",
)
TIMES = Comparison(
    named=(
        "{s} {past} {times} as many {items} as {other}",
        "compared with {other}, {s} {past} {times} as many {items}",
    ),
    number="the number of {items} {s} {past} was {times_of} {number}",
    turned="{other_s} {past} {turned} as many {other_items} as {mine}",
)
PERCENT_MORE = Comparison(
    named=(
        "{s} {past} {k} percent {more} {items} than {other}",
        "compared with {other}, {s} {past} {k} percent {more} {items}",
    ),
    number="the number of {items} {s} {past} was {k} percent {larger} than {number}",
)
AS_MANY = Comparison(
    named=(
        "{s} {past} as many {items} as {other}",
        "compared with {other}, {s} {past} just as many {items}",
    ),
    number="the number of {items} {s} {past} was equal to {number}",
)
RATE = (
    "{s} {past} {k} {items} every {hour} for {n} {hours}",
    "for {n} {hours}, {s} {past} {k} {items} per {hour}",
    "at {k} per {hour}, {s} {past} {items} for {n} {hours}",
)
PRODUCT = (
    "{s} {past} {n} {boxes} of {items} with {k} {items} in each {box}",
    "{s} {past} {n} {boxes} of {items}, and each {box} held {k} {items}",
    "the {items} {s} {past} came in {n} {boxes} of {k}",
)
PART = (
    "{share} of {the} were {part}",
    "of {the}, {share} were {part}",
    "only {share} of {the} were {part}",
)
GROUP = (
    "{the} were {packed} in {boxes} of {k}",
    "each {box} was filled with {k} of {the}",
    "there was one {box} for every {k} of {the}",
)
SHARE = (
    "{the} were divided equally among {k} {places}",
    "{k} {places} got equal shares of {the}",
    "{the} went in equal numbers to {k} {places}",
)
EACH = (
    "{each} {past} {k} {unit}",
    "{the} {past} {k} {unit} each",
)
FOR_EVERY = (
    "{the} {past} {k} {unit} for every {n}",
    "every {n} of {the} {past} {k} {unit}",
)
PACE = (
    "{gerund} {the} went at {k} per {minute}",
    "{k} of {the} were {done} every {minute}",
)
PAID = (
    "{payer} paid for {the} with {n} {unit}",
    "{payer} had {n} {unit} and paid for {the}",
)


def label(things: tuple[Thing, ...]) -> str:
    """Names a count after `than` or `as`: `rolls`, `Maya`, `Maya and Tom together`."""
    people = by_person(things[0])
    names = join([thing.holder if people else thing.item.many for thing in things])
    return names + " together" if len(things) > 1 else names


def by_person(thing: Thing) -> bool:
    """Whether the thing is told apart by its holder."""
    return thing.stem == thing.holder.lower()


def owned(things: tuple[Thing, ...]) -> str:
    """`the rolls`, `Maya's rolls`, `the rolls and muffins`."""
    if by_person(things[0]):
        return join([thing.holder + "'s" for thing in things]) + " " + things[0].item.many
    return "the " + join([thing.item.many for thing in things])


def these(quantity: Quantity) -> str:
    """The things after `of`: `the rolls that were not sold`."""
    tail = f" that were {quantity.part}" if quantity.part else ""
    return owned(quantity.things) + tail


def the(quantity: Quantity) -> str:
    """The things as a subject; several kinds are taken together: `all the rolls and muffins`."""
    if len(quantity.things) == 1:
        return these(quantity)
    return ("all of " if by_person(quantity.things[0]) else "all ") + these(quantity)


def each(quantity: Quantity) -> str:
    """One of the things as a subject: `each roll that was sold`."""
    things = quantity.things
    if len(things) > 1 or by_person(things[0]):
        return f"each of {these(quantity)}"
    tail = f" that was {quantity.part}" if quantity.part else ""
    return f"each {things[0].item.one}{tail}"


def number(graph: Graph, things: tuple[Thing, ...], part: str = "") -> str:
    """`the number of rolls the bakery baked`, `... of the rolls that were sold`."""
    total = "total number" if len(things) > 1 else "number"
    if part:
        return f"the {total} of {owned(things).removeprefix('the ')} that were {part}"
    holders = join(list(dict.fromkeys(thing.holder for thing in things)))
    items = join(list(dict.fromkeys(thing.item.many for thing in things)))
    return f"the {total} of {items} {holders} {graph.story.past}"


def ask_count(graph: Graph, things: tuple[Thing, ...], part: str = "") -> str:
    """Asks how many things there are, all of them or a part."""
    total = " in total" if len(things) > 1 else ""
    if part:
        return f"how many of {owned(things)} were {part}{total}"
    holders = join(list(dict.fromkeys(thing.holder for thing in things)))
    items = join(list(dict.fromkeys(thing.item.many for thing in things)))
    options = (
        f"how many {items} did {holders} {graph.story.base}{total}",
        f"what was {number(graph, things)}",
    )
    return graph.phrase(options)


def ask_difference(graph: Graph, large: Quantity, small: Quantity) -> str:
    """Asks how many more there are of one than of the other."""
    if large.measure:
        base, unit = large.measure.base, large.measure.unit
        subjects = join(large.subjects), join(small.subjects)
        return f"how many more {unit} did {subjects[0]} {base} than {subjects[1]}"
    if large.part:
        ours = owned(large.things)
        theirs = owned(small.things)
        return f"how many more of {ours} than of {theirs} were {large.part}"
    first = large.things[0]
    if by_person(first):
        who = join([thing.holder for thing in large.things])
        return f"how many more {first.item.many} did {who} {graph.story.base} than {label(small.things)}"
    items = join([thing.item.many for thing in large.things])
    return f"how many more {items} than {label(small.things)} did {first.holder} {graph.story.base}"
