"""Kinds of stories: nothing but words."""

from training.data.problems.words import Measure, Noun, Story, Work, nouns

_COST = Measure("cost", "cost", "dollars", "cost")
_WEIGHT = Measure("weighed", "weigh", "kilograms", "weight")
_GRAMS = Measure("weighed", "weigh", "grams", "weight")
_PAID = Measure("paid", "pay", "dollars", "paid")
_MINUTE = Noun("minute", "minutes")
_HOUR = Noun("hour", "hours")
_DAY = Noun("day", "days")
_WEEK = Noun("week", "weeks")

_ALL = (
    Story(
        name="bakery",
        subjects=("the bakery", "the corner cafe", "the night baker"),
        past="baked",
        base="bake",
        items=nouns(
            "roll, muffin, bagel, croissant, cookie, pie, tart, pretzel, scone, brownie, "
            "cupcake, waffle"
        ),
        parts=("sold", "glazed", "frozen"),
        packed="packed",
        containers=nouns("box/boxes, bag, tray"),
        places=nouns("shop, shelf/shelves, table"),
        measures=(_COST, Measure("needed", "need", "grams of flour", "flour")),
        work=Work("wrapped", "wrapping", _MINUTE),
        time=_HOUR,
    ),
    Story(
        name="farm",
        subjects=("the farm", "the farmer", "the valley farm"),
        past="harvested",
        base="harvest",
        items=nouns(
            "pumpkin, melon, cabbage, onion, carrot, potato/potatoes, turnip, beet, leek, "
            "cucumber, pepper, tomato/tomatoes"
        ),
        parts=("sold", "washed", "eaten"),
        packed="packed",
        containers=nouns("crate, sack, basket"),
        places=nouns("market, truck, stall"),
        measures=(_COST, _WEIGHT),
        work=Work("cleaned", "cleaning", _MINUTE),
        time=_DAY,
    ),
    Story(
        name="library",
        subjects=("the library", "the school library", "the librarian"),
        past="lent",
        base="lend",
        items=nouns(
            "novel, comic, atlas/atlases, cookbook, magazine, dictionary/dictionaries, "
            "biography/biographies, map, poem book, travel guide, audiobook, film"
        ),
        parts=("returned", "damaged", "reserved"),
        packed="stacked",
        containers=nouns("pile, box/boxes, cart"),
        places=nouns("class/classes, shelf/shelves, reader"),
        measures=(_COST, Measure("spent", "spend", "days away", "days_away")),
        work=Work("scanned", "scanning", _MINUTE),
        time=_DAY,
    ),
    Story(
        name="bus",
        subjects=("the bus", "the ferry", "the night train"),
        past="carried",
        base="carry",
        items=nouns(
            "student, tourist, worker, teacher, child/children, pensioner, nurse, hiker, "
            "shopper, musician, soldier, player"
        ),
        parts=("seated", "delayed", "insured"),
        packed="seated",
        containers=nouns("row, cabin, section"),
        places=nouns("car, deck, guide"),
        measures=(_PAID, Measure("brought", "bring", "bags", "bags")),
        work=Work("checked in", "checking in", _MINUTE),
        time=_HOUR,
    ),
)

STORIES = {story.name: story for story in _ALL}
STORY_KINDS: tuple[str, ...] = tuple(STORIES)
"""The names of all kinds of stories."""
