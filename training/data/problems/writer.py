"""Writes one word problem: grows a graph of quantities and words it.

`write_problem` is a pure function of seed, index and difficulty, so any problem of
any set can be written anywhere, in any order, without keeping the set.

A problem's graph is grown so that its answer needs exactly the drawn number of operations;
irrelevant facts are further quantities of the same graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from training.data.problems.graph import Graph, Quantity, begin
from training.data.problems.growth import OPERATIONS, distract, grow, needed
from training.data.problems.stories import STORIES, STORY_KINDS
from training.data.problems.words import NAMES, Draw, sentence

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
    """Operations that may occur; `pack_price` brings a `unit_price` with it."""
    shuffle: bool = True
    """Whether facts are in random order rather than in the order in which they are needed."""
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
    decimals: bool = False
    """Whether prices have quarters of a dollar; answers may then be floats."""
    reversed_comparison_fraction: float = 0.25
    """Fraction of the comparisons stated from the known side: `Maya picked 5 fewer plums than
    Tom`, where the answer needs Tom's plums, which are Maya's plus 5."""

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
            ("reversed_comparison_fraction", 0, 1),
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
    """As in `records.Example.program`; its result is `answer` unless it misreads a fact."""
    answer: int | float
    num_operations: int
    """Operations that the answer needs: the program's lines that compute."""
    story_kind: str
    operations: tuple[str, ...]
    """The needed operations' names, in the program's order."""
    num_misread: int
    """Facts that the program misreads."""


def write_problem(
    seed: int, index: int, difficulty: Difficulty, *, misread_fraction: float = 0.0
) -> Problem:
    """Problem `index` of the set `seed`: always the same for the same arguments.

    `misread_fraction` is the fraction of the facts that can be misread which the program gets
    wrong. Question and answer do not depend on it.

    Raises:
        ValueError: seed or index is negative, or the difficulty's operations cannot make
            so long a problem.
    """
    graph, answer = compose(seed, index, difficulty)
    id = f"{seed}-{index}"
    haste = Draw(f"misread {id}")  # Its own draws, so that the question stays the same.
    misread = [q for q in needed(answer) if q.misread and haste.random() < misread_fraction]
    return worded(graph, answer, id, shuffle=difficulty.shuffle, misread=misread)


def compose(seed: int, index: int, difficulty: Difficulty) -> tuple[Graph, Quantity]:
    """The graph of a problem, and the quantity that is its answer.

    Raises:
        ValueError: as `write_problem`.
    """
    if seed < 0 or index < 0:
        raise ValueError(f"seed {seed} and index {index} must not be negative")
    # Cantor's pairing: no two pairs of (seed, index) have the same draws.
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
            decimals=difficulty.decimals,
            reversed_comparison_fraction=difficulty.reversed_comparison_fraction,
            num_names=difficulty.num_names,
            num_items=difficulty.num_items,
        )
        answer = grow(graph, num_operations, difficulty.operations)
        if answer and distract(graph, answer, num_distractors, difficulty.operations):
            return graph, answer
    raise ValueError(
        f"no {story.name} problem with {num_operations} operations in {_MAX_ATTEMPTS} attempts: "
        f"allow more than the operations {', '.join(difficulty.operations)}"
    )


def worded(
    graph: Graph, answer: Quantity, id: str, *, shuffle: bool, misread: Sequence[Quantity] = ()
) -> Problem:
    """The problem in words, with its program, in which the quantities in `misread` are misread."""
    lines_of = needed(answer)
    facts = [quantity for quantity in graph.quantities if quantity.fact]
    if shuffle:
        graph.draw.mix(facts)
    sentences = [sentence(quantity.fact) for quantity in facts]
    sentences.append(sentence(answer.question, "?"))
    lines = [
        f"    {quantity.variable} = "
        + (quantity.misread if quantity in misread else quantity.expression)
        for quantity in lines_of
    ]
    lines += [f"    result = {answer.variable}", "    return result"]
    operations = tuple(q.operation for q in lines_of if q.operation != "given")
    return Problem(
        id=id,
        question=" ".join(sentences),
        program="\n".join(lines),
        answer=answer.value,
        num_operations=len(operations),
        story_kind=graph.story.name,
        operations=operations,
        num_misread=len(misread),
    )
