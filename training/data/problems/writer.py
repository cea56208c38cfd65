"""Writes one word problem: grows a graph of quantities and tells it.

`write_problem` is a pure function of seed, index and difficulty, so any problem of
any set can be written anywhere, in any order, without keeping the set.

A problem's graph is grown so that exactly the drawn number of operations is needed
for the quantity asked for; irrelevant facts are further quantities of the same graph.
"""

from collections.abc import Callable
from dataclasses import dataclass

from training.data.problems import amounts, counts
from training.data.problems.graph import Graph, Quantity, begin
from training.data.problems.stories import STORIES, STORY_KINDS
from training.data.problems.words import NAMES, Draw, sentence

_Unary = Callable[[Graph, Quantity], Quantity | None]
_Binary = Callable[[Graph, Quantity, Quantity], Quantity | None]
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
OPERATIONS: tuple[str, ...] = (*_SOURCES, *_UNARY, *_LAST, "sum", "difference")
"""The names of all operations."""
_MAX_OPERATIONS = 10
_MAX_DISTRACTORS = 6
_MAX_ATTEMPTS = 1000


@dataclass(frozen=True, kw_only=True)
class Difficulty:
    """How hard the problems of a set are.

    Raises:
        ValueError: a bound is out of range or a name unknown.
    """

    min_operations: int = 2
    max_operations: int = 4
    """Operations that the answer needs, 1 to 10."""
    min_distractors: int = 0
    max_distractors: int = 1
    """Irrelevant facts, 0 to 6."""
    story_kinds: tuple[str, ...] = STORY_KINDS
    operations: tuple[str, ...] = OPERATIONS
    """Operations that may occur."""
    shuffle: bool = True
    """Whether facts are told in random order instead of the order of need."""
    num_phrasings: int = 4
    """Wordings in use for each kind of fact, 1 (always the plainest) to 4 (all)."""
    num_names: int = len(NAMES)
    """People's names in use."""
    num_items: int = 12
    """Kinds of items in use in each kind of story."""
    max_given: int = 60
    """Upper bound of the counts that the text states."""
    max_number: int = 1000
    """Upper bound of every number that the program computes."""

    def __post_init__(self) -> None:
        """Check bounds and names."""
        for name, low, high in (
            ("operations", 1, _MAX_OPERATIONS),
            ("distractors", 0, _MAX_DISTRACTORS),
        ):
            least, most = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if least > most:
                raise ValueError(f"min_{name} is {least}, above max_{name}, which is {most}")
            if least < low or most > high:
                raise ValueError(
                    f"min_{name} {least} and max_{name} {most} must lie within {low} to {high}"
                )
        for name, low, high in (
            ("num_phrasings", 1, 4),
            ("num_names", 8, len(NAMES)),
            ("num_items", 6, 12),
            ("max_given", 12, 1000),
            ("max_number", 100, 9999),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name)}, not within {low} to {high}")
        for name, known in (("story_kinds", STORY_KINDS), ("operations", OPERATIONS)):
            chosen = getattr(self, name)
            unknown = [value for value in chosen if value not in known]
            if unknown or not chosen:
                raise ValueError(f"{name} has {unknown or 'nothing'}, known are {', '.join(known)}")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A word problem with the program that solves it."""

    id: str
    question: str
    program: str
    """As in `records.Example.program`."""
    answer: int | float
    num_operations: int
    """Operations that the answer needs: the program's lines that compute."""
    story_kind: str
    operations: tuple[str, ...]
    """The needed operations' names, in the program's order."""


def write_problem(seed: int, index: int, difficulty: Difficulty) -> Problem:
    """Problem `index` of the set `seed`: always the same for the same arguments.

    Raises:
        ValueError: the difficulty's operations cannot make so long a problem.
    """
    # Cantor's pairing keeps sets apart: no (seed, index) shares its draws with another.
    draw = Draw((seed + index) * (seed + index + 1) // 2 + index)
    num_operations = draw.between(difficulty.min_operations, difficulty.max_operations)
    num_distractors = draw.between(difficulty.min_distractors, difficulty.max_distractors)
    story = STORIES[draw.pick(difficulty.story_kinds)]
    for _ in range(_MAX_ATTEMPTS):
        graph = begin(
            draw,
            story,
            num_phrasings=difficulty.num_phrasings,
            max_number=difficulty.max_number,
            max_given=difficulty.max_given,
            num_names=difficulty.num_names,
            num_items=difficulty.num_items,
        )
        asked = _grow(graph, num_operations, difficulty.operations)
        if asked and _distract(graph, asked, num_distractors, difficulty.operations):
            return _tell(graph, asked, f"{seed}-{index}", difficulty.shuffle)
    raise ValueError(
        f"no problem with {num_operations} operations in {_MAX_ATTEMPTS} attempts: "
        f"allow more than the operations {', '.join(difficulty.operations)}"
    )


def _grow(graph: Graph, num_operations: int, names: tuple[str, ...]) -> Quantity | None:
    """Grow until one quantity needs all operations so far, exactly the wanted number.

    `ends` are the quantities that nothing needs yet. Every end but one must still be
    taken up by an operation on two, which bounds how many there may be.
    """
    ends: list[Quantity] = []
    left = num_operations
    misses = 0
    while left or len(ends) != 1:
        if misses > 30 or not left:
            return None
        if len(ends) <= left - (1 if ends else 0) and (not ends or graph.draw.random() < 0.1):
            start = _start(graph, left - max(0, len(ends)), names)
            if start:
                left -= bool(start.parents or start.operation != "given")
                ends.append(start)
                continue
        base = graph.draw.pick(ends) if ends else None
        if base is None:
            return None
        name = graph.draw.pick(names)
        result = _apply(graph, name, base, ends, left)
        if result is None:
            misses += 1
            continue
        made, used = result
        ends = [end for end in ends if end not in used] + [made]
        left -= 2 if name == "pack_price" else 1
    return ends[0]


def _start(graph: Graph, spare: int, names: tuple[str, ...]) -> Quantity | None:
    """A new thing, given, or computed where an operation can be spared for it."""
    name = graph.draw.pick(names)
    if spare > 0 and name in _SOURCES:
        return _SOURCES[name](graph)
    return counts.given(graph)


def _apply(
    graph: Graph, name: str, base: Quantity, ends: list[Quantity], left: int
) -> tuple[Quantity, tuple[Quantity, ...]] | None:
    """Try one operation; gives what it made and what it took."""
    must_join = len(ends) - 1 >= left
    if name in ("sum", "difference"):
        if name == "difference" and (left > 1 or len(ends) > 2):
            return None
        other = _partner(graph, base, ends, must_join)
        if other is None:
            return None
        made = _join(graph, name, base, other)
        return (made, (base, other)) if made else None
    if must_join or name in _SOURCES:
        return None
    if name == "pack_price" and left - 2 < len(ends) - 1:
        return None
    if name in _LAST and (left > 1 or len(ends) > 1):
        return None
    made = (_LAST[name] if name in _LAST else _UNARY[name])(graph, base)
    return (made, (base,)) if made else None


def _join(graph: Graph, name: str, base: Quantity, other: Quantity) -> Quantity | None:
    if name == "difference":
        return amounts.difference(graph, base, other)
    if base.measure:
        return amounts.together(graph, base, other)
    if graph.draw.random() < 0.5:
        return counts.as_many(graph, base, other)
    return counts.together(graph, base, other)


def _partner(
    graph: Graph, base: Quantity, ends: list[Quantity], must_join: bool
) -> Quantity | None:
    """Another quantity to add to this one or to compare it with."""
    among = ends if must_join or graph.draw.random() < 0.5 else graph.quantities
    likes = [quantity for quantity in among if quantity.is_like(base)]
    if likes:
        return graph.draw.pick(likes)
    return counts.given(graph) if base.things and not base.part and not must_join else None


def _distract(graph: Graph, asked: Quantity, wanted: int, names: tuple[str, ...]) -> bool:
    """Add facts that the asked quantity does not need, as many as wanted."""
    needed = _needed(asked)
    spare = sum(1 for q in graph.quantities if q.fact and q not in needed)
    misses = 0
    while spare < wanted and misses < 30:
        name = graph.draw.pick(names)
        if graph.draw.random() < 0.3:
            made = counts.given(graph)
        elif name in _SOURCES:
            made = _SOURCES[name](graph)
        elif name in _UNARY and name != "pack_price":
            made = _UNARY[name](graph, graph.draw.pick(graph.quantities))
        else:
            made = None
        if made and made.fact:
            spare += 1
        else:
            misses += 1
    return spare == wanted


def _needed(asked: Quantity) -> list[Quantity]:
    """The quantities an answer depends on, parents first, itself last."""
    order: list[Quantity] = []

    def visit(quantity: Quantity) -> None:
        if quantity not in order:
            for parent in quantity.parents:
                visit(parent)
            order.append(quantity)

    visit(asked)
    return order


def _tell(graph: Graph, asked: Quantity, id: str, shuffle: bool) -> Problem:
    """The finished text and program."""
    needed = _needed(asked)
    told = [quantity for quantity in graph.quantities if quantity.fact]
    if shuffle:
        graph.draw.mix(told)
    sentences = [sentence(quantity.fact) for quantity in told]
    sentences.append(sentence(asked.question, "?"))
    lines = [f"    {quantity.variable} = {quantity.expression}" for quantity in needed]
    lines += [f"    result = {asked.variable}", "    return result"]
    operations = tuple(q.operation for q in needed if q.operation != "given")
    return Problem(
        id=id,
        question=" ".join(sentences),
        program="\n".join(lines),
        answer=asked.value,
        num_operations=len(operations),
        story_kind=graph.story.name,
        operations=operations,
    )
