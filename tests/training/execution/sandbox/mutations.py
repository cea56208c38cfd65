"""Programs with a few places changed at random, for comparing the tiers.

program = mutated(recorded, seed)       # the same for the same seed
"""

import ast
import copy
import random
import textwrap

from tests.training.execution.sandbox.random_programs import (
    ARITHMETIC,
    BUILTINS,
    EXPRESSIONS,
    FUNCTIONS,
    ODD,
    Writer,
)
from training.execution.executor import Program


def mutated(program: Program, seed: int) -> Program | None:
    """`program` with one to three places changed; None if it does not parse, before or after."""
    source = random.Random(seed)
    try:
        tree = ast.parse(program.code)
        for _ in range(source.randint(1, 3)):
            _Change(source).apply(tree)
        code = ast.unparse(ast.fix_missing_locations(tree))
        ast.parse(code)
    except (SyntaxError, ValueError, TypeError, AttributeError):
        return None
    kind = program.kind
    if source.random() < 0.1:
        names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)] or ["x"]
        name = source.choice(names)
        kind = source.choice(["stdout-last", f"var:{name}", f"func:{name}", "func:missing"])
    return Program(code=code, kind=kind)


class _Change:
    """One random change of a syntax tree, in place."""

    def __init__(self, source: random.Random) -> None:
        self._random = source

    def apply(self, tree: ast.Module) -> None:
        draw = self._random
        writer = Writer(draw)
        names = sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)})
        writer.known = names or ["x"]
        if draw.random() < 0.5:
            self._change_block(draw.choice(_blocks(tree)), writer)
            return
        places = [
            (node, field, index)
            for node in ast.walk(tree)
            for field, index, child in _children(node)
            if isinstance(child, ast.expr)
            and isinstance(getattr(child, "ctx", ast.Load()), ast.Load)
        ]
        if not places:
            return
        parent, field, index = draw.choice(places)
        value = getattr(parent, field) if index is None else getattr(parent, field)[index]
        new = self._changed(value, writer, names)
        if index is None:
            setattr(parent, field, new)
        else:
            getattr(parent, field)[index] = new

    def _changed(self, value: ast.expr, writer: Writer, names: list[str]) -> ast.expr:
        draw = self._random
        text, chance = ast.unparse(value), draw.random()
        if chance < 0.35:
            new = writer.expression(1)
        elif chance < 0.42:
            new = draw.choice(EXPRESSIONS).replace("{e}", f"({text})")
            new = new.replace("{{", "{").replace("}}", "}")
        elif chance < 0.65:
            new = f"({text}) {draw.choice(ARITHMETIC[:6])} {writer.expression(0)}"
        elif chance < 0.8:
            new = draw.choice(names * 2 + [*BUILTINS, *FUNCTIONS])
        elif chance < 0.9:
            new = draw.choice(ODD)
        else:
            new = f"{draw.choice(['abs', 'int', 'round', 'float', *BUILTINS])}({text})"
        return ast.parse(new, mode="eval").body

    def _change_block(self, block: list[ast.stmt], writer: Writer) -> None:
        draw = self._random
        place = draw.randrange(len(block))
        action = draw.choice(["remove", "swap", "repeat", "insert", "insert", "loop", "branch"])
        if action == "remove" and len(block) > 1:
            del block[place]
        elif action == "swap":
            other = draw.randrange(len(block))
            block[place], block[other] = block[other], block[place]
        elif action == "repeat":
            block.insert(draw.randrange(len(block)), copy.deepcopy(block[place]))
        elif action == "insert":
            writer.strange = draw.choice([0.0, 0.0, 0.0, 0.2])
            # In a function, where `return` is allowed.
            text = "def f():\n" + textwrap.indent(writer.statement(), "    ")
            function = ast.parse(text).body[0]
            assert isinstance(function, ast.FunctionDef)
            block[place:place] = function.body
        elif action == "loop":
            header = draw.choice(["for i in range(2)", "if x", "while False", "if True"])
            wrapped = ast.parse(f"{header}:\n    pass").body[0]
            assert isinstance(wrapped, (ast.For, ast.If, ast.While))
            wrapped.body, block[place:] = block[place:], [wrapped]


def _blocks(tree: ast.Module) -> list[list[ast.stmt]]:
    found = [getattr(node, "body", None) for node in ast.walk(tree)]
    return [block for block in found if isinstance(block, list) and block] or [[ast.Pass()]]


def _children(node: ast.AST) -> list[tuple[str, int | None, ast.AST]]:
    found: list[tuple[str, int | None, ast.AST]] = []
    for field, value in ast.iter_fields(node):
        if isinstance(value, list):
            for index, part in enumerate(value):
                if isinstance(part, ast.AST):
                    found.append((field, index, part))
        elif isinstance(value, ast.AST):
            found.append((field, None, value))
    return found
