"""Defines the words of a story, and small helpers for English.

A story is data: who does what to which things, how the things are packed, shared,
measured. The sentences themselves are in `wording`, one grammar for every story, so
that a model trained on some kinds of stories can read the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Noun:
    """A countable thing in both numbers."""

    one: str
    many: str


@dataclass(frozen=True, slots=True)
class Measure:
    """What each thing of a story costs, weighs, eats...: a verb and its unit."""

    past: str
    """`weighed`"""
    base: str
    """`weigh`"""
    unit: str
    """Plural: `kilograms`."""
    suffix: str
    """Ends the variable's name: `weight` in `rolls_weight`."""


@dataclass(frozen=True, slots=True)
class Work:
    """Something done to the things at some pace: `wrapped`, `wrapping`."""

    past: str
    gerund: str
    unit: Noun


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """One kind of story. Every verb's participle equals its past form."""

    name: str
    subjects: tuple[str, ...]
    """Who acts if the story distinguishes several kinds of things: `the bakery`."""
    past: str
    base: str
    items: tuple[Noun, ...]
    """Kinds of things in one story."""
    parts: tuple[str, ...]
    """What some of the things `were`, and the others `were not`: `sold`."""
    packed: str
    """How things get into containers: `packed`."""
    containers: tuple[Noun, ...]
    places: tuple[Noun, ...]
    """Among which things are divided equally."""
    measures: tuple[Measure, ...]
    work: Work
    time: Noun
    """The unit of time in `12 rolls every hour`."""


class Draw(Random):
    """Draws that stay the same in every Python version.

    Only `random()` is promised not to change between versions, so everything here is
    made of it.
    """

    def below(self, stop: int) -> int:
        """An integer in [0, stop)."""
        return int(self.random() * stop)

    def between(self, low: int, high: int) -> int:
        """An integer in [low, high]."""
        return low + int(self.random() * (high - low + 1))

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self.random() * len(options))]

    def mix(self, items: list[T]) -> None:
        """Shuffle in place."""
        for last in range(len(items) - 1, 0, -1):
            other = int(self.random() * (last + 1))
            items[last], items[other] = items[other], items[last]


def nouns(text: str) -> tuple[Noun, ...]:
    """Nouns from `roll, box/boxes, cherry/cherries`; a plain word takes an s."""
    pairs = [word.strip().partition("/") for word in text.split(",")]
    return tuple(Noun(one, many or one + "s") for one, _, many in pairs)


def join(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(parts) == 1:
        return parts[0]
    return ", ".join(parts[:-1]) + " and " + parts[-1]


def identifier(text: str) -> str:
    """A piece of a variable's name: `potted plants` becomes `potted_plants`."""
    return text.lower().replace(" ", "_").replace("-", "_").replace("'", "")


def sentence(text: str, mark: str = ".") -> str:
    """Capital letter and full stop."""
    return text[0].upper() + text[1:] + mark


NAMES = tuple(
    "Maya Tom Anna Ben Clara David Elena Felix Grace Hugo Ivy Jack Kira Leo Mia Noah Olga "
    "Paul Quinn Rosa Sam Tara Umar Vera Will Yara Zoe Amir Bella Carl Dora Emil Fatima Gita "
    "Hana Igor Jon Lucy Marco Nina".split()
)

FRACTIONS = {
    (1, 2): "half",
    (1, 3): "a third",
    (1, 4): "a quarter",
    (1, 5): "a fifth",
    (2, 3): "two thirds",
    (3, 4): "three quarters",
    (2, 5): "two fifths",
}
TIMES = {2: "twice", 3: "3 times", 4: "4 times", 5: "5 times"}
