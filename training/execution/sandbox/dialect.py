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
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

_ARITHMETIC = frozenset({ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow})
_SIGNS = frozenset({ast.USub, ast.UAdd, ast.Not})
_COMPARISONS = frozenset({ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE})
_NUMBERS = frozenset({bool, int, float, type(None)})

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
_MAX_LOOPS = 15
"""Loops within loops; CPython's compiler takes 20."""
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
"""Parsers disagree whether these are white space, line ends or errors."""


def entry(code: str, tree: ast.Module, kind: str) -> str | None:
    """The expression that gives the program's result in tier 1; None if CPython must judge it.

    Args:
        code: The program.
        tree: The same, parsed by `ast.parse`. A program of the dialect compiles: names have one
            meaning, `return`, `break` and `continue` are where they may be, and so on.
        kind: Where its result is: `func:NAME`, `var:NAME` or `stdout-last`.

    Raises:
        RecursionError: expressions are nested too deeply to look at.
    """
    if _CONTROL_CHARACTERS.search(code):
        return None
    how, _, name = kind.partition(":")
    reads_output = how == "stdout-last"
    program = _Program(reads_output=reads_output)
    if not (program.describes(tree) and program.names_are_known()):
        return None
    if reads_output:
        return "None"
    if how == "var":
        return name if name in program.variables else None
    # CPython calls whatever has this name, or else the first function that was defined.
    if name in program.functions:
        return f"{name}()"
    is_free = name not in program.bound and not name.startswith("__")
    return f"{program.functions[0]}()" if is_free and program.functions else None


_Check = Callable[[Any, Any], bool]


class _Program:
    """Checks that a syntax tree consists of the constructs listed here and of nothing else.

    One pass over the tree, as it is done for every program: `describes` checks the constructs and
    notes the names, `names_are_known` then checks these. Each kind of node has its method, named
    in the tables at the end.
    """

    def __init__(self, *, reads_output: bool) -> None:
        """Set up; with `reads_output`, the result is the program's output, not a value."""
        self._reads_output = reads_output
        self.functions: list[str] = []
        self.variables: set[str] = set()
        self._modules: set[str] = set()
        self._imported: set[tuple[str, str]] = set()
        """Names imported from `math`: the program's name and the name in `math`."""
        self._read: set[str] = set()
        self._read_in: set[str] = set()
        """Names of which an attribute is read."""
        self._called: set[str] = set()
        self._called_with_keywords: set[str] = set()
        self._compares = self._has_tuples = False
        self._is_in_function, self._num_loops = False, 0

    def describes(self, tree: ast.Module) -> bool:
        for node in tree.body:
            is_function = type(node) is ast.FunctionDef
            if not (self._function(node) if is_function else self._statement(node)):
                return False
        # A tuple is compared by its elements' identity.
        return not (self._compares and self._has_tuples)

    @property
    def bound(self) -> set[str]:
        """All names that the program binds."""
        imported = {name for name, _ in self._imported}
        return {*self.functions, *self.variables, *self._modules, *imported}

    def names_are_known(self) -> bool:
        """Whether each name has one meaning, and each that is read is one that the program binds.

        A name that is called is a function of the program or of `math`.
        """
        bound, math = self.bound, dict(self._imported)
        num_bound = sum(map(len, (self.functions, self.variables, self._modules, self._imported)))
        if num_bound != len(bound) or not bound.isdisjoint(_BUILTINS):
            return False
        if any(name.startswith("__") for name in bound):
            return False
        called = self._called.difference(self.functions)
        return (
            all(math.get(name) in _MATH_CONSTANTS for name in self._read - self.variables)
            and all(math.get(name) in _MATH_FUNCTIONS for name in called)
            and self._read_in <= self._modules
            and self._called_with_keywords <= set(self.functions)
        )

    # Statements.

    def _function(self, node: ast.FunctionDef) -> bool:
        given = node.args
        names = {argument.arg for argument in given.args}
        self.functions.append(node.name)
        self.variables |= names
        self._is_in_function = True
        is_described = (
            not (given.posonlyargs or given.kwonlyargs or given.vararg or given.kwarg)
            and len(names) == len(given.args)
            and not (node.decorator_list or getattr(node, "type_params", None))
            and _plain_annotation(node.returns)
            and all(_plain_annotation(argument.annotation) for argument in given.args)
            and self._values(given.defaults)
            and self._block(node.body)
        )
        self._is_in_function = False
        return is_described

    def _block(self, statements: Iterable[ast.stmt]) -> bool:
        for node in statements:
            if not self._statement(node):
                return False
        return True

    def _statement(self, node: ast.stmt) -> bool:
        check = self._STATEMENTS.get(type(node))
        return check is not None and check(self, node)

    def _target(self, node: ast.expr) -> bool:
        if type(node) is not ast.Name:
            return False
        self.variables.add(node.id)
        return True

    def _assign(self, node: ast.Assign) -> bool:
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=value):
                if type(value) is not ast.Tuple or len(value.elts) != len(targets):
                    return False
                return all(map(self._target, targets)) and self._values(value.elts)
            case _:
                return all(map(self._target, node.targets)) and self._value(node.value)

    def _aug_assign(self, node: ast.AugAssign) -> bool:
        is_known = type(node.op) in _ARITHMETIC and self._target(node.target)
        return is_known and self._value(node.value)

    def _ann_assign(self, node: ast.AnnAssign) -> bool:
        is_known = self._target(node.target) and _plain_annotation(node.annotation)
        return is_known and node.value is not None and self._value(node.value)

    def _return(self, node: ast.Return) -> bool:
        return self._is_in_function and (node.value is None or self._value(node.value))

    def _expression(self, node: ast.Expr) -> bool:
        value = node.value
        if type(value) is ast.Constant:
            return True
        return self._is_print(value) or self._value(value)

    def _if(self, node: ast.If) -> bool:
        return self._value(node.test) and self._block(node.body) and self._block(node.orelse)

    def _while(self, node: ast.While) -> bool:
        return self._value(node.test) and self._loop(node)

    def _for(self, node: ast.For) -> bool:
        return (
            self._target(node.target)
            and (self._is_range(node.iter) or self._list(node.iter))
            and self._loop(node)
        )

    def _loop(self, node: ast.For | ast.While) -> bool:
        self._num_loops += 1
        is_described = self._num_loops <= _MAX_LOOPS and self._block(node.body)
        self._num_loops -= 1
        return is_described and self._block(node.orelse)

    def _jump(self, node: ast.stmt) -> bool:
        return self._num_loops > 0

    def _assert(self, node: ast.Assert) -> bool:
        return self._value(node.test) and (node.msg is None or self._text_or_value(node.msg))

    def _import(self, node: ast.Import) -> bool:
        self._modules.update([alias.asname or alias.name for alias in node.names])
        return all(alias.name == "math" for alias in node.names)

    def _import_from(self, node: ast.ImportFrom) -> bool:
        self._imported.update([(alias.asname or alias.name, alias.name) for alias in node.names])
        known = all(alias.name in _MATH_FUNCTIONS | _MATH_CONSTANTS for alias in node.names)
        return known and node.module == "math" and node.level == 0

    def _pass(self, node: ast.stmt) -> bool:
        return True

    def _is_print(self, node: ast.expr) -> bool:
        match node:
            case ast.Call(func=ast.Name(id="print"), args=arguments, keywords=keywords):
                joins_lines = self._reads_output and keywords
                return (
                    not joins_lines
                    and len({keyword.arg for keyword in keywords}) == len(keywords)
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
        """Whether it is a list or tuple of values, written where it is consumed."""
        return isinstance(node, (ast.List, ast.Tuple)) and self._values(node.elts)

    # Text, which is only printed.

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

    # Values: each evaluates to a number, a truth value or None, or to a tuple where allowed.

    def _values(self, nodes: Iterable[ast.expr]) -> bool:
        for node in nodes:
            if not self._value(node):
                return False
        return True

    def _value(self, node: ast.expr) -> bool:
        check = self._VALUES.get(type(node))
        return check is not None and check(self, node)

    def _constant(self, node: ast.Constant) -> bool:
        return type(node.value) in _NUMBERS

    def _name(self, node: ast.Name) -> bool:
        self._read.add(node.id)
        return True

    def _bin_op(self, node: ast.BinOp) -> bool:
        return type(node.op) in _ARITHMETIC and self._value(node.left) and self._value(node.right)

    def _unary_op(self, node: ast.UnaryOp) -> bool:
        return type(node.op) in _SIGNS and self._value(node.operand)

    def _bool_op(self, node: ast.BoolOp) -> bool:
        return self._values(node.values)

    def _compare(self, node: ast.Compare) -> bool:
        self._compares = True
        match node:
            case ast.Compare(ops=[ast.Is() | ast.IsNot()], comparators=[right]):
                is_none = isinstance(right, ast.Constant) and right.value is None
                return is_none and self._value(node.left)
            case _:
                known = all(type(operator) in _COMPARISONS for operator in node.ops)
                return known and self._value(node.left) and self._values(node.comparators)

    def _if_exp(self, node: ast.IfExp) -> bool:
        return self._values((node.test, node.body, node.orelse))

    def _attribute(self, node: ast.Attribute) -> bool:
        if type(node.value) is not ast.Name or node.attr not in _MATH_CONSTANTS:
            return False
        self._read_in.add(node.value.id)
        return True

    def _tuple(self, node: ast.Tuple) -> bool:
        self._has_tuples = True
        return self._values(node.elts)

    def _call(self, node: ast.Call) -> bool:
        called, arguments = node.func, node.args
        if type(called) is ast.Attribute:
            if type(called.value) is not ast.Name or called.attr not in _MATH_FUNCTIONS:
                return False
            self._read_in.add(called.value.id)
            return not node.keywords and self._values(arguments)
        if type(called) is not ast.Name:
            return False
        name = called.id
        # The built-in one: a program that gives this name another meaning is refused as a whole.
        if name in _OF_NUMBERS or name in _OF_A_LIST:
            self._compares |= name in _OF_NUMBERS
            if len(arguments) == 1:
                return not node.keywords and self._list(arguments[0])
            return not node.keywords and name in _OF_NUMBERS and self._values(arguments)
        if name in _OF_ONE_NUMBER:
            return not node.keywords and len(arguments) == 1 and self._value(arguments[0])
        self._called.add(name)
        return self._values(arguments) and (not node.keywords or self._keywords(node, name))

    def _keywords(self, node: ast.Call, name: str) -> bool:
        self._called_with_keywords.add(name)
        names = {keyword.arg for keyword in node.keywords}
        is_plain = len(names) == len(node.keywords) and None not in names
        return (
            is_plain
            and not any(str(name).startswith("__") for name in names)
            and self._values([keyword.value for keyword in node.keywords])
        )

    _STATEMENTS: ClassVar[Mapping[type[ast.AST], _Check]] = {
        ast.Assign: _assign, ast.AugAssign: _aug_assign, ast.AnnAssign: _ann_assign,
        ast.Return: _return, ast.Expr: _expression, ast.If: _if, ast.While: _while, ast.For: _for,
        ast.Assert: _assert, ast.Import: _import, ast.ImportFrom: _import_from, ast.Pass: _pass,
        ast.Break: _jump, ast.Continue: _jump,
    }  # fmt: skip
    _VALUES: ClassVar[Mapping[type[ast.AST], _Check]] = {
        ast.Constant: _constant, ast.Name: _name, ast.BinOp: _bin_op, ast.UnaryOp: _unary_op,
        ast.BoolOp: _bool_op, ast.Compare: _compare, ast.IfExp: _if_exp, ast.Attribute: _attribute,
        ast.Tuple: _tuple, ast.Call: _call,
    }  # fmt: skip


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
