"""Decides which programs tier 1 may run: a small grammar of programs that compute with numbers.

    entry(code, tree, "func:simple_math_problem")  # the expression to evaluate, or None

Monty (tier 1) is another implementation of Python. Its arithmetic, branches, loops and calls
agree with CPython's to the last digit; much of the rest differs, often without an error. So a
program runs in tier 1 only if this grammar describes all of it. CPython runs every other program,
and every program that ends in an error in tier 1. Of 15,136 programs that models wrote for word
problems, 95 % are described. The grammar leaves out, each because of a silent difference:

- Text as a value: methods, `%`, format specifications and `float("nan")`. Text is only printed.
  Where the printed text is the result, a value is printed without digits beside it: Monty may
  print another last digit of a float's 17, which is the same number only if nothing follows it.
- Lists, tuples and dicts as values: elements compared by identity, containers that hold
  themselves or change during a loop over them. A list or tuple is consumed where it is written,
  as in `sum([a, b])`. Every variable therefore holds a number, a truth value or None. One
  exception: a number with a thousands comma is a tuple in Python, a frequent mistake; in a
  program that compares nothing, tuples are values.
- Generators, comprehensions and lazy built-ins, which Monty computes at once.
- Functions as values, conditional or repeated definitions, and any second meaning of a name,
  a built-in's above all: the function or value that a name refers to is known without running.
- `is` except with None; `round` with two arguments; `sum` from CPython 3.12 on, which adds
  floats with compensation; annotations that might fail, as Monty does not evaluate them.
- `try`, since the effect of an error in tier 1 is not known; modules other than `math`.

Before adding a construct, add it to the generator of the fuzzer (test_tiers.py beside the
tests of this folder), which runs random programs in both tiers.
"""

import ast
import builtins
import re
import sys
from collections.abc import Iterable

_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
_SIGNS = (ast.USub, ast.UAdd, ast.Not)
_COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)

_OF_ONE_NUMBER = frozenset("abs float int round".split())
_OF_NUMBERS = frozenset("max min".split())
"""Take two or more values, or one list or tuple; those of `_OF_A_LIST` take only the latter."""
_OF_A_LIST = frozenset("sum".split()) if sys.version_info < (3, 12) else frozenset[str]()

_MATH_FUNCTIONS = frozenset(
    "ceil comb cos degrees exp fabs factorial floor gcd isqrt lcm log log10 log2 perm pow "
    "radians sin sqrt tan trunc".split()
)
_MATH_CONSTANTS = frozenset("e pi".split())
_ANNOTATIONS = frozenset("bool dict float int list str tuple".split())
_BUILTINS = frozenset(dir(builtins))
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
"""Parsers disagree whether these are white space, line ends or errors."""


def entry(code: str, tree: ast.Module, kind: str) -> str | None:
    """The expression that gives the program's result in tier 1; None if CPython must judge it.

    Args:
        code: The program.
        tree: The same, parsed by `ast.parse` and known to compile.
        kind: Where its result is: `func:NAME`, `var:NAME` or `stdout-last`.

    Raises:
        RecursionError: expressions are nested too deeply to look at.
    """
    if _CONTROL_CHARACTERS.search(code):
        return None
    names = _Names(tree)
    how, _, name = kind.partition(":")
    reads_output = how == "stdout-last"
    grammar = _Grammar(names, tree, reads_output=reads_output)
    if not (names.have_one_meaning and grammar.describes(tree)):
        return None
    if reads_output:
        return "None"
    if how == "var":
        return name if name in names.variables else None
    # CPython calls whatever has this name, or else the first function that was defined.
    if name in names.functions:
        return f"{name}()"
    is_free = name not in names.all and not name.startswith("__")
    return f"{names.functions[0]}()" if is_free and names.functions else None


class _Names:
    """The names that a program binds, by what they refer to."""

    def __init__(self, tree: ast.Module) -> None:
        self.functions: list[str] = []
        self.variables: set[str] = set()
        self.modules: set[str] = set()
        self.math: dict[str, str] = {}
        """Names imported from `math`: the program's name to the name in `math`."""
        imported: set[tuple[str, str]] = set()
        for node in ast.walk(tree):
            match node:
                case ast.FunctionDef(name=name):
                    self.functions.append(name)
                case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                    self.variables.add(name)
                case ast.Import(names=aliases):
                    self.modules.update(alias.asname or alias.name for alias in aliases)
                case ast.ImportFrom(names=aliases):
                    imported.update((alias.asname or alias.name, alias.name) for alias in aliases)
                case _:
                    pass
        self.math.update(imported)
        self.all = {*self.functions, *self.variables, *self.modules, *self.math}
        num_bound = len(self.functions) + len(self.variables) + len(self.modules) + len(imported)
        self.have_one_meaning = (
            num_bound == len(self.all)
            and self.all.isdisjoint(_BUILTINS)
            and not any(name.startswith("__") for name in self.all)
        )


class _Grammar:
    """Checks that a syntax tree consists of the constructs listed here and of nothing else."""

    def __init__(self, names: _Names, tree: ast.Module, *, reads_output: bool) -> None:
        """Set up; with `reads_output`, the result is the program's output, not a value."""
        self._names, self._reads_output = names, reads_output
        self._may_hold_tuples = not any(
            isinstance(node, ast.Compare) or (isinstance(node, ast.Name) and node.id in _OF_NUMBERS)
            for node in ast.walk(tree)
        )

    def describes(self, tree: ast.Module) -> bool:
        return all(
            self._function(node) if isinstance(node, ast.FunctionDef) else self._statement(node)
            for node in tree.body
        )

    def _function(self, node: ast.FunctionDef) -> bool:
        given = node.args
        return (
            not (given.posonlyargs or given.kwonlyargs or given.vararg or given.kwarg)
            and not (node.decorator_list or getattr(node, "type_params", None))
            and _plain_annotation(node.returns)
            and all(_plain_annotation(argument.annotation) for argument in given.args)
            and self._values(given.defaults)
            and self._block(node.body)
        )

    def _block(self, statements: Iterable[ast.stmt]) -> bool:
        return all(self._statement(statement) for statement in statements)

    def _statement(self, node: ast.stmt) -> bool:
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                all_names = all(isinstance(target, ast.Name) for target in targets)
                return all_names and len(targets) == len(values) and self._values(values)
            case ast.Assign(targets=targets, value=value):
                return all(isinstance(t, ast.Name) for t in targets) and self._value(value)
            case ast.AugAssign(target=ast.Name(), op=operator, value=value):
                return isinstance(operator, _ARITHMETIC) and self._value(value)
            case ast.AnnAssign(target=ast.Name(), annotation=annotation, value=ast.expr() as value):
                return _plain_annotation(annotation) and self._value(value)
            case ast.Return(value=value):
                return value is None or self._value(value)
            case ast.Expr(value=ast.Constant()):
                return True
            case ast.Expr(value=value):
                return self._is_print(value) or self._value(value)
            case ast.If(test=test) | ast.While(test=test):
                return self._value(test) and self._block(node.body) and self._block(node.orelse)
            case ast.For(target=ast.Name(), iter=walked):
                return (
                    (self._is_range(walked) or self._list(walked))
                    and self._block(node.body)
                    and self._block(node.orelse)
                )
            case ast.Assert(test=test, msg=message):
                return self._value(test) and (message is None or self._text_or_value(message))
            case ast.Import():
                return all(alias.name == "math" for alias in node.names)
            case ast.ImportFrom(module="math", level=0):
                return all(alias.name in _MATH_FUNCTIONS | _MATH_CONSTANTS for alias in node.names)
            case ast.Pass() | ast.Break() | ast.Continue():
                return True
            case _:
                return False

    def _is_print(self, node: ast.expr) -> bool:
        match node:
            case ast.Call(func=ast.Name(id="print"), args=arguments, keywords=keywords):
                joins_lines = self._reads_output and keywords
                return (
                    not joins_lines
                    and all(keyword.arg in ("sep", "end") for keyword in keywords)
                    and all(self._text(keyword.value) for keyword in keywords)
                    and all(self._text_or_value(argument) for argument in arguments)
                )
            case _:
                return False

    def _is_range(self, node: ast.expr) -> bool:
        match node:
            case ast.Call(func=ast.Name(id="range"), args=arguments, keywords=[]):
                return self._values(arguments)
            case _:
                return False

    def _list(self, node: ast.expr) -> bool:
        return isinstance(node, (ast.List, ast.Tuple)) and self._values(node.elts)

    def _text_or_value(self, node: ast.expr) -> bool:
        return self._text(node) or self._value(node)

    def _text(self, node: ast.expr) -> bool:
        match node:
            case ast.Constant(value=str()):
                return True
            case ast.JoinedStr(values=parts):
                joins_digits = self._reads_output and _joins_digits(parts)
                return not joins_digits and all(self._text(part) for part in parts)
            case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
                return self._text_or_value(value)
            case _:
                return False

    def _values(self, nodes: Iterable[ast.expr]) -> bool:
        return all(self._value(node) for node in nodes)

    def _value(self, node: ast.expr) -> bool:
        """Whether it evaluates to a number, a truth value or None, or to a tuple where allowed."""
        match node:
            case ast.Constant(value=value):
                return value is None or isinstance(value, (bool, int, float))
            case ast.Name(id=name):
                return (
                    name in self._names.variables or self._names.math.get(name) in _MATH_CONSTANTS
                )
            case ast.BinOp(left=left, op=operator, right=right):
                return isinstance(operator, _ARITHMETIC) and self._values((left, right))
            case ast.UnaryOp(op=operator, operand=operand):
                return isinstance(operator, _SIGNS) and self._value(operand)
            case ast.BoolOp(values=values):
                return self._values(values)
            case ast.Compare(left=left, ops=[ast.Is() | ast.IsNot()], comparators=[right]):
                is_none = isinstance(right, ast.Constant) and right.value is None
                return is_none and self._value(left)
            case ast.Compare(left=left, ops=operators, comparators=others):
                known = all(isinstance(operator, _COMPARISONS) for operator in operators)
                return known and self._values((left, *others))
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self._values((test, body, orelse))
            case ast.Attribute(value=ast.Name(id=module), attr=name):
                return module in self._names.modules and name in _MATH_CONSTANTS
            case ast.Tuple(elts=elements):
                return self._may_hold_tuples and self._values(elements)
            case ast.Call():
                return self._call(node)
            case _:
                return False

    def _call(self, node: ast.Call) -> bool:
        arguments = node.args
        match node.func:
            case ast.Name(id=name) if name in self._names.functions:
                return self._values(arguments) and all(
                    keyword.arg is not None and self._value(keyword.value)
                    for keyword in node.keywords
                )
            case _ if node.keywords:
                return False
            case ast.Name(id=name) if name in _OF_ONE_NUMBER:
                return len(arguments) == 1 and self._values(arguments)
            case ast.Name(id=name) if name in _OF_NUMBERS | _OF_A_LIST and len(arguments) == 1:
                return self._list(arguments[0])
            case ast.Name(id=name) if name in _OF_NUMBERS:
                return self._values(arguments)
            case ast.Name(id=name):
                return self._names.math.get(name) in _MATH_FUNCTIONS and self._values(arguments)
            case ast.Attribute(value=ast.Name(id=module), attr=name):
                is_math = module in self._names.modules and name in _MATH_FUNCTIONS
                return is_math and self._values(arguments)
            case _:
                return False


def _plain_annotation(annotation: ast.expr | None) -> bool:
    """Whether evaluating it cannot fail; Monty never evaluates annotations."""
    if annotation is None or isinstance(annotation, ast.Constant):
        return True
    return isinstance(annotation, ast.Name) and annotation.id in _ANNOTATIONS


def _joins_digits(parts: list[ast.expr]) -> bool:
    """Whether an f-string of these parts may print other digits right beside a value's own."""
    texts = [part.value for part in parts if isinstance(part, ast.Constant)]
    num_values = len(parts) - len(texts)
    have_digits = any(character.isnumeric() for text in texts for character in str(text))
    return num_values > 1 or (num_values == 1 and have_digits)
