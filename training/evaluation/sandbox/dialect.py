"""Which programs tier 1 is known to run exactly like CPython: an allow list over the syntax.

Monty (tier 1) is another implementation of Python, and some of its differences are silent:
a right-looking value where CPython gives another one or fails. Known ones: two-argument
`round`; `zip`, `enumerate`, generators and their kin are lists that can be consumed twice;
annotations are never evaluated; missing modules and built-ins can be caught by `try`; the
order of sets; identity of small numbers; `sum` of floats from CPython 3.12 on. So a program
goes to tier 1 only if all it uses is listed here, which plain word-problem programs are;
the rest, and whatever ends in an error, is judged by CPython.
"""

import ast
import builtins
import sys

_NODES: frozenset[type[ast.AST]] = frozenset(
    [
        ast.Module, ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Assign,
        ast.AugAssign, ast.AnnAssign, ast.For, ast.While, ast.If, ast.Expr, ast.Pass, ast.Break,
        ast.Continue, ast.Assert, ast.Import, ast.ImportFrom, ast.alias,
        ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.keyword, ast.Constant,
        ast.Name, ast.Attribute, ast.Subscript, ast.Slice, ast.List, ast.Tuple, ast.Dict,
        ast.ListComp, ast.DictComp, ast.GeneratorExp, ast.comprehension, ast.JoinedStr,
        ast.FormattedValue, ast.IfExp, ast.Lambda, ast.Load, ast.Store, ast.And, ast.Or,
        ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.USub, ast.UAdd,
        ast.Not, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn, ast.Is,
        ast.IsNot,
    ]
)  # fmt: skip

_LAZY = frozenset({"zip", "enumerate", "reversed"})
_CONSUMERS = frozenset({"sum", "list", "tuple", "min", "max", "sorted", "any", "all", "dict"})
_BUILTINS = (
    frozenset(
        "abs all any bool dict divmod float int isinstance len list max min pow print range "
        "round sorted str sum tuple".split()
    )
    | _LAZY
) - ({"sum"} if sys.version_info >= (3, 12) else frozenset())

_MATH = frozenset(
    "sqrt floor ceil pow fabs gcd lcm log log10 log2 exp factorial comb perm trunc hypot pi e "
    "sin cos tan radians degrees prod isqrt".split()
)
_MUTATORS = frozenset("append extend insert pop remove reverse sort update setdefault".split())
_METHODS = _MUTATORS | frozenset(
    "copy items keys values get index count upper lower strip split join replace find "
    "startswith endswith isdigit title capitalize format".split()
)
_ANNOTATIONS = frozenset("int float str bool list dict tuple".split())
_OTHER_BUILTINS = frozenset(dir(builtins)) - _BUILTINS


def same_in_monty(tree: ast.Module) -> bool:
    """Whether every construct of the program is one that both tiers run alike."""
    consumed: set[int] = set()
    """Identities of nodes where a lazy value is used up at once."""
    called: set[int] = set()
    """Identities of the names of `round`, `zip`, … where they are called as both understand."""
    nodes = list(ast.walk(tree))
    for node in nodes:
        if type(node) not in _NODES:
            return False
        if isinstance(node, (ast.For, ast.comprehension)):
            consumed.add(id(node.iter))
        elif isinstance(node, ast.Call) and _consumes(node.func):
            consumed.update(id(argument) for argument in node.args)
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            one_round = node.func.id == "round" and len(node.args) == 1 and not node.keywords
            if one_round or (node.func.id in _LAZY and id(node) in consumed):
                called.add(id(node.func))
    return all(_alike(node, consumed, called) for node in nodes)


def _consumes(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id in _CONSUMERS
    return isinstance(function, ast.Attribute) and function.attr == "join"


def _alike(node: ast.AST, consumed: set[int], called: set[int]) -> bool:
    match node:
        case ast.Name(id=name):
            if name in _LAZY or name == "round":
                return id(node) in called
            return name not in _OTHER_BUILTINS and (name[:2] != "__" or name == "__name__")
        case ast.Attribute():
            return isinstance(node.ctx, ast.Load) and (node.attr in _METHODS | _MATH)
        case ast.GeneratorExp():
            return id(node) in consumed and not _mutates(node, None)
        case ast.For():
            return not _changes_what_it_walks(node)
        case ast.Constant():
            return node.value is None or isinstance(node.value, (bool, int, float, str))
        case ast.Compare():
            return all(
                not isinstance(operator, (ast.Is, ast.IsNot)) or isinstance(right, ast.Constant)
                for operator, right in zip(node.ops, node.comparators, strict=True)
            )
        case ast.FunctionDef():
            return not node.decorator_list and _plain_annotation(node.returns)
        case ast.arguments():
            return not (node.posonlyargs or node.kwonlyargs or node.vararg or node.kwarg)
        case ast.arg(annotation=annotation) | ast.AnnAssign(annotation=annotation):
            return _plain_annotation(annotation)
        case ast.Import():
            return all(alias.name == "math" for alias in node.names)
        case ast.ImportFrom():
            is_math = node.module == "math" and node.level == 0
            return is_math and all(alias.name in _MATH for alias in node.names)
        case ast.Call(func=ast.Name(id="print")):
            return all(keyword.arg in ("sep", "end") for keyword in node.keywords)
        case _:
            return True


def _plain_annotation(annotation: ast.expr | None) -> bool:
    """Whether evaluating it cannot fail, as Monty never evaluates it."""
    if annotation is None or isinstance(annotation, ast.Constant):
        return True
    return isinstance(annotation, ast.Name) and annotation.id in _ANNOTATIONS


def _changes_what_it_walks(loop: ast.For) -> bool:
    """Whether a loop over a lazy view changes the list below it, which Monty copied."""
    walked = loop.iter
    if not (isinstance(walked, ast.Call) and isinstance(walked.func, ast.Name)):
        return False
    if walked.func.id not in _LAZY:
        return False
    names = {node.id for node in ast.walk(walked) if isinstance(node, ast.Name)}
    return any(_mutates(statement, names) for statement in loop.body)


def _mutates(tree: ast.AST, names: set[str] | None) -> bool:
    """Whether `tree` changes a list or dict in place: one of `names`, or any if None."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in _MUTATORS:
            base = node.value
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            base = node.value
        elif isinstance(node, ast.AugAssign):
            base = node.target
        else:
            continue
        if names is None or not isinstance(base, ast.Name) or base.id in names:
            return True
    return False
