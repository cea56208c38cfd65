"""Converts GSM8K's answers, with their `<<48/2=24>>` calculator marks, to TinyGSM programs.

    Natalia sold 48/2 = <<48/2=24>>24 clips in May.
    Natalia sold 48+24 = <<48+24=72>>72 clips altogether in April and May.
    #### 72

becomes

    clips_in_may = 48 / 2
    clips_altogether = 48 + clips_in_may
    result = clips_altogether
    return result

Every mark becomes a line, and so does a correct equation without a mark. A number that equals an
earlier line's result becomes that line's variable. Only programs that compute gold are returned;
they are evaluated by walking the syntax tree, never executed.

Of the 7,473 training questions 7,160 give one. The others solve an equation in words and
state its root, leave their last step out, calculate with percent signs or clock times, or
(a few) reach another number than gold.
"""

import ast
import builtins
import keyword
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from training.execution.numbers import parse_number, read_gold

HUB_CONFIG = "main"
"""The data set's plain form, the name of a config on the hub and of a folder; not `socratic`."""

_NUMBER = r"(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)"
_MARK = re.compile(rf"<<(?P<expression>[^<>=]*)=(?P<value>[^<>]*)>>(?:{_NUMBER})?")
_TOKEN = re.compile(rf"(?P<number>{_NUMBER})|(?P<word>[a-zA-Z]+)|(?P<sign>[^\s])")
_OPERATORS = {"x": "*", "X": "*", "×": "*", "÷": "/", "times": "*"}
_MAX_UNIT_WORDS = 3
_WORD = re.compile(r"[a-z]+")
_FILLER = frozenset(
    "a after also altogether an and are as at be because but by did does each equals for from "
    "get gets had has have he her his if in is it its more of on only or she so than that the "
    "their them then there therefore these they this to total was we were which will with "
    "would x".split()
)
_MAX_NAME_WORDS = 4
_MAX_EXPRESSION_CHARACTERS = 200
"""Python's parser and walks over its trees raise an error at a few hundred levels."""
_TAKEN = frozenset({*keyword.kwlist, *dir(builtins), "result"})


class NoProgramError(ValueError):
    """The answer gives no program; the message is a short reason, by which it is counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Step:
    name: str
    expression: str
    stated: float
    """The value in the text, which may be rounded."""


def gold_of(answer: str) -> float:
    """The number after `####`.

    Raises:
        ValueError: there is none, or a double cannot hold it.
    """
    _, mark, text = answer.rpartition("####")
    if not mark:
        raise ValueError(f"no number after ####: {answer[-40:]!r}")
    try:
        return read_gold(text.strip())
    except ValueError as error:
        raise ValueError(f"after ####: {error}") from None


def program_of(question: str, answer: str) -> str:
    """The body of the program that the answer describes; it computes gold.

    Raises:
        NoProgramError: the answer's calculations do not lead to gold, or use a number that is
            neither given nor calculated (an equation solved in words).
    """
    try:
        gold = gold_of(answer)
    except ValueError:
        raise NoProgramError("no number after ####") from None
    steps = _steps(answer.rpartition("####")[0])
    if not steps:
        raise NoProgramError("no calculation in the answer")
    known = {float(_plain(number)) for number in re.findall(_NUMBER, question)}
    ends = [at + 1 for at, step in enumerate(steps) if _equal(step.stated, gold)]
    if not ends:
        raise NoProgramError("no calculation gives gold")
    # A result that the text rounded differs from its variable. The variable is used if it still
    # leads to gold, the text's number otherwise.
    for only_exact in (False, True):
        lines = _linked(steps[: ends[-1]], known, only_exact)
        if lines and _equal(lines[-1][2], gold):
            if any(_is_bare(step) and step.stated not in known for step in steps[: ends[-1]]):
                raise NoProgramError("a number is stated, not calculated")
            body = [f"    {name} = {expression}" for name, expression, _ in lines]
            return "\n".join([*body, f"    result = {lines[-1][0]}", "    return result"])
    raise NoProgramError("the calculations do not compute to gold")


def _steps(text: str) -> list[_Step]:
    """The calculations of the text in order, marked or not, each with a name of its own."""
    steps: list[_Step] = []
    taken = set(_TAKEN)
    for line in text.splitlines():
        for begin, end, expression, value in _calculations(line):
            stated = parse_number(value)
            if stated is None or not expression:
                continue
            if re.fullmatch(_NUMBER, expression) and any(stated == step.stated for step in steps):
                continue  # repeats an earlier result
            before, after = line[:begin], line[end:]
            name = unique_name(_name(before, after, value.rpartition("=")[2]), taken)
            steps.append(_Step(name=name, expression=expression, stated=stated))
    return steps


_Calculation = tuple[int, int, str, str]
"""Begin and end of the mark or the value in the line, expression, value."""


def _calculations(line: str) -> list[_Calculation]:
    """Marks and equations of a line; of `12+24 = <<36=36>>36` the equation."""
    unmarked = _unmarked(line)
    ends = {end for _, end, expression, _ in unmarked if expression}
    marked = [
        (*mark.span(), _parsed(mark["expression"]), mark["value"].rpartition("=")[2])
        for mark in _MARK.finditer(line)
        if mark.end() not in ends
    ]
    return sorted(marked + unmarked)


def _unmarked(line: str) -> list[_Calculation]:
    """True equations that stand in the text: `20 bars * 110 kgs = 2200`."""
    tokens = list(_TOKEN.finditer(_MARK.sub(_masked, line)))
    found: list[_Calculation] = []
    for at, token in enumerate(tokens[:-1]):
        value = at + 2 if tokens[at + 1].group() == "$" else at + 1
        if token.group() == "=" and value < len(tokens) and tokens[value]["number"]:
            expression = _equal_to(_before(tokens[:at]), float(_plain(tokens[value].group())))
            found.append((*tokens[value].span(), expression, tokens[value].group()))
    return found


def _masked(mark: re.Match[str]) -> str:
    """Hide a mark, so that `48/2 = <<48/2=24>>24` is found once; a bare mark leaves its value."""
    bare = mark["expression"] == mark["value"]
    return (mark["value"] if bare else "\0").rjust(len(mark.group()))


def _before(tokens: list[re.Match[str]]) -> list[str]:
    """The numbers and operators before an equals sign, without units and currency."""
    kept: list[str] = []
    num_words = 0
    for token in reversed(tokens):
        text = _OPERATORS.get(token.group(), token.group())
        if token["word"] and text != "*":
            num_words += 1
            if num_words > _MAX_UNIT_WORDS:
                break
        elif token["number"] or text in "+-*/()":
            if kept and kept[0] == "(" and (token["number"] or text == ")"):
                kept.insert(0, "*")  # 8(20) is a product
            kept.insert(0, _plain(text))
            num_words = 0
        elif text not in "$%":
            break
    return kept


def _equal_to(parts: list[str], value: float) -> str:
    """The longest tail of `parts` that is a calculation with this result; empty if none is."""
    for start in range(len(parts) - 2):
        expression = _parsed(" ".join(parts[start:]))
        if expression and not re.fullmatch(_NUMBER, expression):
            try:
                if _equal(_evaluate(expression, {}), value):
                    return expression
            except NoProgramError:
                continue
    return ""


def _plain(number: str) -> str:
    """The number as Python writes it: no commas, no leading zeros."""
    return re.sub(r"^0+(?=\d)", "", number.replace(",", ""))


def _parsed(expression: str) -> str:
    """The expression in Python's own spacing; empty if it is not arithmetic."""
    expression = re.sub(rf"(?<![\d.]){_NUMBER}", lambda number: _plain(number.group()), expression)
    try:
        _evaluate(expression.strip(), {})
        return ast.unparse(ast.parse(expression.strip(), mode="eval"))
    except NoProgramError:
        return ""


def _linked(
    steps: list[_Step], known: set[float], only_exact: bool
) -> list[tuple[str, str, float]]:
    """Lines (name, expression, value) in which earlier results are variables.

    A number that is also `known` from the question becomes a variable only if it is the last
    line's result.
    """
    values: dict[str, float] = {}
    stated: dict[float, str] = {}
    lines: list[tuple[str, str, float]] = []
    for step in steps:
        last = lines[-1][0] if lines else ""
        usable = {at: name for at, name in stated.items() if at not in known or name == last}
        tree = _Reuse(usable).visit(ast.parse(step.expression, mode="eval"))
        expression = ast.unparse(tree)
        try:
            values[step.name] = _evaluate(expression, values)
        except NoProgramError:
            return []
        lines.append((step.name, expression, values[step.name]))
        if not only_exact or step.stated == values[step.name]:
            stated[step.stated] = step.name
    return lines


def _is_bare(step: _Step) -> bool:
    return re.fullmatch(_NUMBER, step.expression) is not None


class _Reuse(ast.NodeTransformer):
    """Replaces numbers by the variables that hold them, each variable once per line.

    The 100 of `/ 100` stays a number, as it belongs to a percentage, and of `2 * 2` only one 2
    becomes a variable.
    """

    def __init__(self, stated: Mapping[float, str]) -> None:
        self._stated = dict(stated)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:  # noqa: N802 (ast's own name)
        percent = isinstance(node.op, ast.Div) and _is_hundred(node.right)
        node.left = self.visit(node.left)
        if not percent:
            node.right = self.visit(node.right)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:  # noqa: N802
        name = self._stated.pop(float(str(node.value)), None)
        return ast.Name(name, ast.Load()) if name else node


def _is_hundred(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == 100


def _equal(value: float, other: float) -> bool:
    """Stricter than a benchmark's scorer: a program must not learn to round 1,001 to 1,000."""
    return math.isclose(value, other, rel_tol=1e-6, abs_tol=1e-6)


def _evaluate(expression: str, values: Mapping[str, float]) -> float:
    """The value of + - * / arithmetic over numbers and variables.

    Raises:
        NoProgramError: it is anything else, divides by zero, or exceeds what a double holds.
    """
    if len(expression) > _MAX_EXPRESSION_CHARACTERS:
        raise NoProgramError("a calculation is no arithmetic")
    try:
        value = _value(ast.parse(expression, mode="eval").body, values)
        is_finite = math.isfinite(value)  # an integer too large for a double raises
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise NoProgramError("a calculation is no arithmetic") from error
    if not is_finite:
        raise NoProgramError("a calculation is no arithmetic")
    return value


def _value(node: ast.expr, values: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, values)
        case ast.BinOp(left=left, op=operator, right=right):
            first, second = _value(left, values), _value(right, values)
            match operator:
                case ast.Add():
                    return first + second
                case ast.Sub():
                    return first - second
                case ast.Mult():
                    return first * second
                case ast.Div():
                    return first / second
                case _:
                    pass
        case _:
            pass
    raise NoProgramError("a calculation is no arithmetic")


def _name(before: str, after: str, value: str) -> str:
    """A variable's name: the words after the value, else those after the same number earlier in
    the line ("600 pages because"), else those before the calculation."""
    words = _words(_phrase(after))
    if before.endswith("$") and words[:1] != ["dollars"]:
        words = ["dollars", *words]
    if not words:
        repeated = re.search(
            rf"(\$?)(?<![\d.]){re.escape(value)}(?![\d.])(.*)", before.replace(",", "")
        )
        if repeated:
            words = ["dollars"] * bool(repeated[1]) + _words(_phrase(repeated[2]))
    if not words:
        words = _words(" ".join(_words(re.split(r"[.,;:]", before.lower())[-1])[-_MAX_NAME_WORDS:]))
    words = words[:_MAX_NAME_WORDS]
    while words and words[-1] in _FILLER:
        words.pop()
    return "_".join(words) or "step"


def _phrase(text: str) -> str:
    """The words that the text begins with, up to a number, a sign or a clause."""
    return re.split(r"[^a-z' -]|\b(?:because|since|which|so)\b", text.lower(), maxsplit=1)[0]


def _words(text: str) -> list[str]:
    """The words of a text without leading fillers; possessives lose their `'s`."""
    words = [word for word in _WORD.findall(text.replace("'s", "")) if len(word) > 1]
    while words and words[0] in _FILLER:
        words.pop(0)
    return words


def unique_name(name: str, taken: set[str]) -> str:
    """The name, with a number if it is taken; it is taken from then on."""
    chosen, number = name, 1
    while chosen in taken:
        number += 1
        chosen = f"{name}_{number}"
    taken.add(chosen)
    return chosen
