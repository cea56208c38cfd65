"""Defines the graph of quantities behind one problem.

A `Quantity` is one line of the program: a given number or an operation on other
quantities. A `Thing` is what a story counts (the rolls, Maya's rolls); quantities are
about one thing or several together. The graph only stores them; `counts` and `amounts` decide
which quantities may be added, and `wording` how they are worded.
"""

from dataclasses import dataclass, field

from training.data.problems.words import NAMES, Draw, Measure, Noun, Story, identifier


@dataclass(frozen=True, eq=False, slots=True)
class Thing:
    """Something counted: an item of the one subject, or one person's items."""

    holder: str
    """`the bakery`, `Maya`"""
    item: Noun
    stem: str
    """Starts the variables' names: `rolls`, `maya`."""


@dataclass(frozen=True, eq=False, slots=True)
class Quantity:
    """One number of the story, one line of the program."""

    variable: str
    expression: str
    value: int | float
    operation: str
    """`given` for a number that the text states."""
    parents: tuple["Quantity", ...]
    fact: str
    """The sentence that defines it, without its full stop; empty if its question defines it
    (`rolls and muffins together`)."""
    question: str
    """The question for it, without the question mark."""
    things: tuple[Thing, ...] = ()
    """What is counted, for counts; empty for measures."""
    part: str = ""
    """Which of the things: `` (all), `sold`, `not sold`."""
    measure: Measure | None = None
    """What kind of amount this is, for measures."""
    subjects: tuple[str, ...] = ()
    """The things that are measured: `the rolls that were sold`."""
    misread: str = ""
    """`expression` as a hasty reader of the fact writes it; empty: none is known."""

    @property
    def stem(self) -> str:
        """The variable's name as the start of longer names."""
        if self.things and not self.part:
            return "_and_".join(thing.stem for thing in self.things)
        return self.variable

    def is_like(self, other: "Quantity") -> bool:
        """Whether adding or comparing the two makes sense."""
        if self.measure or other.measure:
            same = self.measure == other.measure
            return same and not set(self.subjects) & set(other.subjects)
        both_counts = bool(self.things) and bool(other.things)
        return both_counts and self.part == other.part and not self.overlaps(other)

    def overlaps(self, other: "Quantity") -> bool:
        """Whether some thing is counted in both."""
        return any(thing is mine for mine in self.things for thing in other.things)


@dataclass(slots=True)
class Graph:
    """One story's people and things, and the quantities stated so far."""

    draw: Draw
    story: Story
    num_phrasings: int
    max_number: int
    max_given: int
    decimals: bool
    reversed_comparison_fraction: float
    by_person: bool
    """Several people with one kind of item, or one subject with several kinds."""
    payer: str
    """Pays where something is paid for, and does nothing else."""
    part: str
    container: Noun
    place: Noun
    measure: Measure
    free: list[Thing]
    """Things without a quantity so far, in random order."""
    quantities: list[Quantity] = field(default_factory=list[Quantity])
    claims: set[tuple[int, str]] = field(default_factory=set[tuple[int, str]])

    def add(self, quantity: Quantity) -> Quantity:
        """Remember a quantity."""
        self.quantities.append(quantity)
        return quantity

    def claim(self, things: tuple[Thing, ...], what: str) -> bool:
        """Reserve an aspect of things, so that no two facts are about the same one."""
        keys = [(id(thing), what) for thing in things]
        if any(key in self.claims for key in keys):
            return False
        self.claims.update(keys)
        return True

    def fits(self, value: int | float) -> bool:
        """Whether the number is positive and not above `max_number`."""
        return 0 < value <= self.max_number

    def phrase(self, options: tuple[str, ...]) -> str:
        """One of the first `num_phrasings` wordings."""
        return options[self.draw.below(min(self.num_phrasings, len(options)))]


def begin(
    draw: Draw,
    story: Story,
    *,
    num_phrasings: int,
    max_number: int,
    max_given: int,
    decimals: bool,
    reversed_comparison_fraction: float,
    num_names: int,
    num_items: int,
) -> Graph:
    """A graph without quantities: who, what, where."""
    by_person = draw.random() < 0.5
    names = list(NAMES[:num_names])
    draw.mix(names)
    items = list(story.items[:num_items])
    draw.mix(items)
    if by_person:
        free = [Thing(name, items[0], identifier(name)) for name in names[:-1][:12]]
    else:
        subjects = story.subjects[: max(1, num_phrasings)]
        subject = draw.pick(subjects) if draw.random() < 0.6 else names[0]
        free = [Thing(subject, item, identifier(item.many)) for item in items]
    return Graph(
        draw=draw,
        story=story,
        num_phrasings=num_phrasings,
        max_number=max_number,
        max_given=max_given,
        decimals=decimals,
        reversed_comparison_fraction=reversed_comparison_fraction,
        by_person=by_person,
        payer=names[-1],
        part=draw.pick(story.parts),
        container=draw.pick(story.containers),
        place=draw.pick(story.places),
        measure=draw.pick(story.measures),
        free=free,
    )
