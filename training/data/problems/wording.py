"""Words each relation between quantities as a sentence, and each answer as a question.

One grammar for all kinds of stories. Each relation has several wordings, the plainest
first; `Graph.phrase` draws among the first few. Numbers are written as digits except
half, third, quarter, fifth and twice.
"""

from dataclasses import dataclass

from training.data.problems.graph import Graph, Quantity, Thing
from training.data.problems.words import join


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Wordings that state a count by comparing it with another one."""

    named: tuple[str, ...]
    """Name the other one in a word: `more muffins than rolls`."""
    number: str
    """Spells the other one out, also where it is a part: `the number of rolls that were sold`."""
    turned: str = ""
    """Has the other one for its subject: `5 fewer rolls than muffins`."""


GIVEN = (
    "{s} {past} {n} {items}",
    "in all, {n} {items} were {past} by {s}",
    "{count} was {n}",
    "there were {n} {items} that {s} {past}",
)
MORE = Comparison(
    named=(
        "{s} {past} {k} {more} {items} than {other}",
        "compared with {other}, {s} {past} {k} {more} {items}",
    ),
    number="{count} was {k} {more} than {number}",
    turned="{other_s} {past} {k} {turned} {other_items} than {mine}",
)
TIMES = Comparison(
    named=(
        "{s} {past} {times} as many {items} as {other}",
        "compared with {other}, {s} {past} {times} as many {items}",
    ),
    number="{count} was {times_of} {number}",
    turned="{other_s} {past} {turned} as many {other_items} as {mine}",
)
PERCENT_MORE = Comparison(
    named=(
        "{s} {past} {k} percent {more} {items} than {other}",
        "compared with {other}, {s} {past} {k} percent {more} {items}",
    ),
    number="{count} was {k} percent {larger} than {number}",
)
AS_MANY = Comparison(
    named=(
        "{s} {past} as many {items} as {other}",
        "compared with {other}, {s} {past} just as many {items}",
    ),
    number="{count} was equal to {number}",
)
RATE = (
    "{s} {past} {k} {items} every {hour} for {n} {hours}",
    "for {n} {hours}, {s} {past} {k} {items} per {hour}",
    "at {k} per {hour}, {s} {past} {items} for {n} {hours}",
)
PRODUCT = (
    "{s} {past} {n} {boxes} of {items} with {k} {items} in each {box}",
    "{s} {past} {n} {boxes} of {items}, and each {box} held {k} {items}",
    "{mine_all} came in {n} {boxes} of {k}",
)
PART = (
    "{share} of {the} were {part}",
    "of {the}, {share} were {part}",
    "only {share} of {the} were {part}",
)
GROUP = (
    "{the} were {packed} in {boxes} of {k}",
    "each {box} was filled with {k} of {these}",
    "there was one {box} for every {k} of {these}",
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
    "every {n} of {these} {past} {k} {unit}",
)
PACE = (
    "{gerund} {the} went at {k} per {minute}",
    "{k} of {these} were {done} every {minute}",
)
PAID = (
    "{payer} paid for {the} with {n} {unit}",
    "{payer} had {n} {unit} and paid for {the}",
)


def by_person(things: tuple[Thing, ...]) -> bool:
    """Whether things are distinguished by their holders."""
    return things[0].stem == things[0].holder.lower()


def label(things: tuple[Thing, ...]) -> str:
    """Names a count after `than` or `as`: `rolls`, `Maya`, `Maya and Tom together`."""
    if by_person(things):
        names = join([thing.holder for thing in things])
    else:
        names = join([thing.item.many for thing in things])
    return names + " together" if len(things) > 1 else names


def bare(things: tuple[Thing, ...], part: str = "") -> str:
    """`rolls and muffins`, `Maya's rolls that were sold`."""
    if by_person(things):
        owned = join([thing.holder + "'s" for thing in things]) + " " + things[0].item.many
    else:
        owned = join([thing.item.many for thing in things])
    return f"{owned} that were {part}" if part else owned


def these(things: tuple[Thing, ...], part: str = "") -> str:
    """The things after `of`: `the rolls that were sold`, `Maya's rolls`."""
    return bare(things, part) if by_person(things) else f"the {bare(things, part)}"


def the(things: tuple[Thing, ...], part: str = "") -> str:
    """The things as a subject; several kinds are taken together: `all the rolls and muffins`."""
    if len(things) == 1:
        return these(things, part)
    return ("all of " if by_person(things) else "all ") + these(things, part)


def each(things: tuple[Thing, ...], part: str = "") -> str:
    """One of the things as a subject: `each roll that was sold`."""
    first = things[0]
    if len(things) > 1 or by_person(things):
        return f"each of {these(things, part)}"
    tail = f" that was {part}" if part else ""
    return f"each {first.item.one}{tail}"


def number(things: tuple[Thing, ...], part: str = "") -> str:
    """`the number of rolls that were sold`, `the total number of Maya's and Tom's rolls`."""
    return f"the {'total number' if len(things) > 1 else 'number'} of {bare(things, part)}"


def ask_count(graph: Graph, things: tuple[Thing, ...], part: str = "") -> str:
    """Asks how many things there are, all of them or a part."""
    total = " in total" if len(things) > 1 else ""
    if part:
        return f"how many of {these(things)} were {part}{total}"
    holders = join(list(dict.fromkeys(thing.holder for thing in things)))
    items = join(list(dict.fromkeys(thing.item.many for thing in things)))
    return graph.phrase(
        (
            f"how many {items} did {holders} {graph.story.base}{total}",
            f"what was {number(things)}",
        )
    )


def ask_difference(graph: Graph, large: Quantity, small: Quantity) -> str:
    """Asks how many more there are of one than of the other."""
    if large.measure:
        base, unit = large.measure.base, large.measure.unit
        subjects = join(large.subjects), join(small.subjects)
        return f"how many more {unit} did {subjects[0]} {base} than {subjects[1]}"
    ours, theirs = large.things, small.things
    if large.part:
        return f"how many more of {these(ours)} than of {these(theirs)} were {large.part}"
    than, base = label(theirs), graph.story.base
    if by_person(ours):
        who = join([thing.holder for thing in ours])
        return f"how many more {ours[0].item.many} did {who} {base} than {than}"
    items = join([thing.item.many for thing in ours])
    return f"how many more {items} than {than} did {ours[0].holder} {base}"
