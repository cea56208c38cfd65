"""Mistakes of a careless teacher: programs that run and give another number.

A fact is read the wrong way round (a sum instead of a difference, a product instead of a
quotient), a step is left out, a conversion is forgotten, or a number is attached to the wrong
quantity.
"""

import ast
from collections.abc import Sequence

from tests.bench.stand_in.body import Line
from training.data.problems.words import Draw

_CONFUSED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Sub: ast.Add,
    ast.Add: ast.Sub,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
}
_SHORT_FRACTION = 0.3
"""Templates of which one wrong version leaves the last step out."""


def mistaken(
    lines: Sequence[Line], num_numbers: int, draw: Draw, most: int
) -> list[tuple[Line, ...]]:
    """Up to `most` wrong versions of the lines, drawn from all of them."""
    places = [
        (at, place)
        for at, line in enumerate(lines)
        for place, node in enumerate(ast.walk(ast.parse(line.expression, mode="eval")))
        if _can_be_misread(node, num_numbers)
    ]
    draw.mix(places)
    versions = [
        (
            *lines[:at],
            Line(lines[at].name, _misread(lines[at].expression, place, num_numbers, draw)),
        )
        + tuple(lines[at + 1 :])
        for at, place in places[:most]
    ]
    if len(lines) > 1 and (len(versions) < most or draw.random() < _SHORT_FRACTION):
        versions[-1:] = [tuple(lines[:-1])]
    return versions


def _can_be_misread(node: ast.AST, num_numbers: int) -> bool:
    if isinstance(node, ast.BinOp):
        return type(node.op) in _CONFUSED
    return isinstance(node, ast.Name) and _is_number(node.id) and num_numbers > 1


def _is_number(name: str) -> bool:
    return name[0] == name[-1] == "N"


def _misread(expression: str, place: int, num_numbers: int, draw: Draw) -> str:
    """The expression with one operation or one number misread."""
    tree = ast.parse(expression, mode="eval")
    node = list(ast.walk(tree))[place]
    if isinstance(node, ast.Name):
        other = (int(node.id[1:-1]) + draw.between(1, num_numbers - 1)) % num_numbers
        node.id = f"N{other}N"
    elif isinstance(node, ast.BinOp):
        if tree.body is node and isinstance(node.right, ast.Constant) and draw.random() < 0.5:
            return ast.unparse(node.left)  # a conversion is forgotten
        node.op = _CONFUSED[type(node.op)]()
    return ast.unparse(tree)
