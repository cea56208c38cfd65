"""The lines of a template's program: as format strings, and compiled to compute their result."""

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.stand_in.numbers import Number
from training.data.gsm8k import unique_name

_LINE = re.compile(r"    (?P<name>\w+) = (?P<expression>.+)")
_PLACEHOLDER = re.compile(r"\bN(\d+)N\b")
_PIECE = re.compile(r"[A-Za-z0-9]+")
_FILLER = frozenset(
    "a an the of for in on at to and or is are was were be been has have had he she it they his "
    "her their its that which who with from by as if so than then more less there each".split()
)
_MAX_GROWTH = 12
"""How many times greater than the original a value may be."""


@dataclass(frozen=True, slots=True)
class Line:
    """One assignment; `N0N` stands for the template's first number."""

    name: str
    expression: str


def lines_of(program: str) -> tuple[Line, ...]:
    """The assignments before the result; empty if there is another statement."""
    lines = program.splitlines()
    matches = [_LINE.fullmatch(line) for line in lines[:-2]]
    found = [Line(match["name"], match["expression"]) for match in matches if match]
    is_plain = len(found) == len(matches) and lines[-1] == "    return result"
    return (
        tuple(found) if found and is_plain and lines[-2] == f"    result = {found[-1].name}" else ()
    )


def with_placeholders(lines: Sequence[Line], numbers: Sequence[Number]) -> tuple[Line, ...]:
    """The lines with a placeholder for each of the numbers."""
    names = {number.value: f"N{at}N" for at, number in enumerate(numbers)}
    return tuple(Line(line.name, _Placed(names).placed(line.expression)) for line in lines)


class _Placed(ast.NodeTransformer):
    """Also makes a quotient of `//`, so that a check sees whether the division leaves a rest."""

    def __init__(self, names: Mapping[int | float, str]) -> None:
        self._names = names

    def placed(self, expression: str) -> str:
        return ast.unparse(self.visit(ast.parse(expression, mode="eval")))

    def visit_FloorDiv(self, node: ast.FloorDiv) -> ast.AST:  # noqa: N802 (ast's own name)
        return ast.Div()

    def visit_Constant(self, node: ast.Constant) -> ast.AST:  # noqa: N802
        name = self._names.get(node.value) if isinstance(node.value, (int, float)) else None
        return ast.Name(name, ast.Load()) if name else node


Compute = Callable[[Sequence[int | float]], "int | float | None"]


def compiled(lines: Sequence[Line], num_numbers: int) -> Compute:
    """The result of the lines as a function of the numbers."""
    return _function(lines, num_numbers, [[] for _ in lines])


def checked(lines: Sequence[Line], numbers: Sequence[Number]) -> Compute | None:
    """As `compiled`, but None where a value is not as the original ones are.

    What was whole stays whole, what was positive stays positive, cents stay cents, a fraction
    stays below one, and no value becomes much greater.
    """
    values = _values(lines, [number.value for number in numbers])
    if values is None:
        return None
    conditions = [_conditions(line.name, value) for line, value in zip(lines, values, strict=True)]
    conditions[0] += _orders(numbers)
    return _function(lines, len(numbers), conditions)


def divides_wholly(lines: Sequence[Line], numbers: Sequence[Number]) -> bool:
    """Whether `//` can stand for every `/`, for all numbers that pass the check.

    So it is where every value is whole, and a line has one quotient, which is no factor:
    `a * 3 / 4`, not `3 / 4 * a`.
    """
    values = _values(lines, [number.value for number in numbers])
    trees = [ast.parse(line.expression, mode="eval").body for line in lines]
    return (
        values is not None
        and all(value % 1 == 0 for value in values)
        and not any(isinstance(number.value, float) for number in numbers)
        and not any(_can_leave_rest(tree) for tree in trees)
    )


def _can_leave_rest(tree: ast.expr) -> bool:
    """Whether a line whose value is whole may have a quotient that is not."""
    if sum(isinstance(node, ast.Div) for node in ast.walk(tree)) > 1:
        return True
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            return True
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Div)):
            inside = [*ast.walk(node.left), *ast.walk(node.right)]
            if any(isinstance(each, ast.Div) for each in inside):
                return True
    return False


def _conditions(name: str, value: float) -> list[str]:
    conditions = [f"{name} > 0" if value > 0 else f"{name} <= 0"]
    if value % 1 == 0:
        conditions.append(f"{name} % 1 == 0")
    elif round(value, 2) == value:
        conditions.append(f"round({name}, 2) == {name}")
    if value < 1:
        return [*conditions, f"{name} < 1"]
    return [*conditions, f"{name} <= {value * _MAX_GROWTH + 20}"]


def _orders(numbers: Sequence[Number]) -> list[str]:
    """What is less stays less, among numbers of the same unit."""
    return [
        f"N{at}N {'<' if number.value < other.value else '>'} N{at + 1 + after}N"
        for at, number in enumerate(numbers)
        for after, other in enumerate(numbers[at + 1 :])
        if number.unit and number.unit == other.unit
    ]


def _values(lines: Sequence[Line], numbers: Sequence[int | float]) -> list[float] | None:
    names = [line.name for line in lines]
    text = "".join(f"    {line.name} = {line.expression}\n" for line in lines)
    text += f"    return [{', '.join(names)}]\n"
    try:
        return _executed(len(numbers), text)(numbers)
    except (ArithmeticError, NameError):
        return None


def _function(lines: Sequence[Line], num_numbers: int, conditions: Sequence[list[str]]) -> Compute:
    text = ""
    for line, tests in zip(lines, conditions, strict=True):
        text += f"    {line.name} = {line.expression}\n"
        if tests:
            text += f"    if not ({' and '.join(tests)}): return None\n"
    return _executed(num_numbers, text + f"    return {lines[-1].name}\n")


def _executed(num_numbers: int, text: str) -> Callable[[Sequence[int | float]], Any]:
    """A function of our own arithmetic; nothing else is ever in a template's lines."""
    names = "".join(f"N{at}N, " for at in range(num_numbers))
    space: dict[str, Any] = {}
    exec(f"def compute(numbers):\n    {names}= numbers\n{text}", space)
    return space["compute"]


class Names:
    """The names of a template's variables as format strings, and those of its numbers."""

    def __init__(
        self,
        question: str,
        numbers: Sequence[Number],
        lines: Sequence[Line],
        identifiers: Mapping[str, int],
    ) -> None:
        self._arguments = identifiers
        self._compound = [piece for piece in identifiers if "_" in piece]
        taken = {line.name for line in lines} | {"result"}
        self.of_numbers = [unique_name(_name(question, number), taken) for number in numbers]

    def formatted(self, text: str) -> str:
        """The text with arguments for what the question exchanges."""
        for piece in self._compound:
            text = re.sub(
                rf"(?<![a-z0-9]){piece}(?![a-z0-9])", f"{{{self._arguments[piece]}}}", text
            )
        return _PIECE.sub(self._argument, text)

    def _argument(self, piece: re.Match[str]) -> str:
        argument = self._arguments.get(piece[0])
        return piece[0] if argument is None else f"{{{argument}}}"


def _name(question: str, number: Number) -> str:
    """A variable's name from the words after the number, or before an amount of money."""
    begin, end, _ = number.spans[0]
    is_money = question[:begin].endswith("$")
    after = re.split(r"[.,;:?!()$\d]", question[end:].lower(), maxsplit=1)[0]
    before = re.split(r"[.,;:?!()\d]", question[:begin].lower().rstrip("$ "))[-1]
    words = [
        word for word in re.findall(r"[a-z]+", after) if word not in _FILLER and len(word) > 1
    ][:2]
    if is_money or not words:
        words = [w for w in re.findall(r"[a-z]+", before) if w not in _FILLER and len(w) > 1][-2:]
    if question[end:].startswith("%"):
        words = ["percent", *words[:2]]
    return "_".join(words) or ("amount" if is_money else "number")


@dataclass(frozen=True, slots=True)
class Body:
    """A program's lines in the styles of a teacher, right or wrong."""

    inline: tuple[str, ...]
    """Format strings of the assignments, with the numbers in them."""
    named: tuple[str, ...]
    """The same with the numbers assigned to variables first; empty if those have no names."""
    comments: tuple[str, ...]
    """A comment for each line of `inline`."""
    last: str
    """The variable that holds the result."""
    compute: Compute

    @classmethod
    def from_lines(cls, lines: Sequence[Line], names: Names, compute: Compute) -> "Body":
        """The body of lines with placeholders."""
        return cls(
            inline=tuple(_inline(line, names) for line in lines),
            named=_all_named(lines, names) if names.of_numbers else (),
            comments=tuple(
                f"# Calculate {names.formatted(line.name).replace('_', ' ')}" for line in lines
            ),
            last=names.formatted(lines[-1].name),
            compute=compute,
        )


def _all_named(lines: Sequence[Line], names: Names) -> tuple[str, ...]:
    """The assignments with the numbers assigned to variables first."""
    bare = {
        int(match[1]): line.name
        for line in lines
        if (match := _PLACEHOLDER.fullmatch(line.expression))
    }
    used: set[int] = set()
    for line in lines:
        if match := _PLACEHOLDER.fullmatch(line.expression):
            if int(match[1]) in used:
                bare.pop(int(match[1]), None)  # used before this line
        else:
            used |= {int(at) for at in _PLACEHOLDER.findall(line.expression)}
    of_numbers = {at: bare.get(at, name) for at, name in enumerate(names.of_numbers)}
    givens = [
        f"{names.formatted(of_numbers[at])} = {{{4 * at + 3}}}" for at in sorted(used - set(bare))
    ]
    return (*givens, *(_named(line, names, of_numbers) for line in lines))


def _inline(line: Line, names: Names) -> str:
    expression = names.formatted(line.expression)
    expression = _PLACEHOLDER.sub(lambda at: f"{{{4 * int(at[1]) + 3}}}", expression)
    return f"{names.formatted(line.name)} = {expression}"


def _named(line: Line, names: Names, of_numbers: Mapping[int, str]) -> str:
    if _PLACEHOLDER.fullmatch(line.expression):
        return _inline(line, names)
    expression = _PLACEHOLDER.sub(lambda at: of_numbers[int(at[1])], line.expression)
    return f"{names.formatted(line.name)} = {names.formatted(expression)}"
