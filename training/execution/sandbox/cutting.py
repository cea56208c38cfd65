"""Cuts a function as TinyGSM writes it into its question and its body.

    cut(code)              # the question is the docstring
    cut(code, question)    # the question is given, and wins over the docstring

Text that does not parse as it stands is repaired where one repair is obvious: a code fence is taken
off, and so is prose before and after the function. With a question given, the docstring may be
missing. `Cut.repairs` names what was repaired, so that it can be counted.

This parses untrusted code, so it runs in the reader's jailed process only.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass

FENCE = "code fence"
PROSE = "text around the code"
NO_DOCSTRING = "no docstring"
REPAIRS = (FENCE, PROSE, NO_DOCSTRING)
"""All that is repaired."""

_INDENT = "    "
_LINE_END = re.compile(r"\r\n|\r|\n")
"""Line ends of Python's parser. `str.splitlines` also splits at form feeds, U+2028, …"""
_FENCED = re.compile(r"^[ \t]*(?:```|~~~)[^\n]*\n(.*?)(?:^[ \t]*(?:```|~~~)|\Z)", re.DOTALL | re.M)
_BEGINS_CODE = re.compile(r"(?:def|import|from)\s")


class CutError(ValueError):
    """The code cannot be cut; the message says why."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A function in two parts."""

    question: str
    program: str
    """The code after the docstring, re-indented to four spaces, with its comments."""
    repairs: tuple[str, ...]
    tree: ast.Module
    """The syntax tree of `text`."""
    text: str
    """The code, without what was around it."""


def cut(code: str, question: str = "") -> Cut:
    """Cut the first function of `code`; anything after the function is dropped.

    Raises:
        CutError: the code does not parse, holds no function, or its first function has no body,
            a statement beside its docstring or its signature, or neither it nor the caller has
            a question.
        MemoryError: it is nested too deeply, or this process has no memory left.
    """
    text, tree, repairs = _parsed(code)
    function = next((node for node in tree.body if isinstance(node, ast.FunctionDef)), None)
    if function is None:
        raise CutError("the code defines no function")
    lines = _lines(text)
    docstring = _docstring(function)
    if not docstring or docstring.isspace():
        if not question:
            raise CutError(f"function {function.name} has no docstring")
        repairs.append(NO_DOCSTRING)
    if docstring is None:
        first_line = _first_line_of_body(function, lines)
    else:
        first_line = _line_after_docstring(function)
        question = question or inspect.cleandoc(docstring).strip()
    # By lines, not by nodes: comments between statements belong to the program.
    program = _reindented(lines[first_line - 1 : function.end_lineno], function, first_line)
    return Cut(question, program, tuple(repairs), tree, text)


def _parsed(code: str) -> tuple[str, ast.Module, list[str]]:
    """The code, its syntax tree, and the repairs without which it would not parse."""
    try:
        return code, ast.parse(code, "<program>"), []
    except (SyntaxError, ValueError, RecursionError) as error:
        first_error = error
    for text, repairs in _repaired(code):
        try:
            tree = ast.parse(text, "<program>")
        except (SyntaxError, ValueError, RecursionError):
            continue
        if any(isinstance(node, ast.FunctionDef) for node in tree.body):
            return text, tree, repairs
    raise CutError(f"the code does not parse: {first_error}") from first_error


def _repaired(code: str) -> Iterator[tuple[str, list[str]]]:
    """Texts that might be the code without what is around it, and how they were made."""
    fenced = next((found[1] for found in _FENCED.finditer(code) if "def " in found[1]), None)
    repairs = [] if fenced is None else [FENCE]
    if fenced is not None:
        code = fenced
        yield code, repairs
    lines = _lines(code)
    first = next((n for n, line in enumerate(lines) if _BEGINS_CODE.match(line)), None)
    if first is None:
        return
    function = next((n for n, line in enumerate(lines) if line.startswith("def ")), first)
    indented = [n for n in range(function + 1, len(lines)) if lines[n][:1] in (" ", "\t")]
    # The function's body may end where a line is not indented; its docstring may hold such lines.
    end = next(
        (n for n in range(function + 1, len(lines)) if lines[n] and lines[n][0] not in " \t"), None
    )
    for stop in (len(lines), indented[-1] + 1 if indented else None, end):
        if stop is not None and (first, stop) != (0, len(lines)):
            yield "\n".join(lines[first:stop]), [*repairs, PROSE]


def _lines(code: str) -> list[str]:
    # The regular expression takes a tenth of the time in which a function is cut.
    return _LINE_END.split(code) if "\r" in code else code.split("\n")


def _docstring(function: ast.FunctionDef) -> str | None:
    """The docstring, which may be empty; `ast.get_docstring` loads a module on its first call."""
    match function.body[0]:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return text
        case _:
            return None


def _line_after_docstring(function: ast.FunctionDef) -> int:
    if len(function.body) < 2:
        raise CutError(f"function {function.name} has no body after its docstring")
    docstring, first = function.body[:2]
    if first.lineno == docstring.end_lineno:
        raise CutError(f"function {function.name} has a statement on its docstring's last line")
    return (docstring.end_lineno or 0) + 1


def _first_line_of_body(function: ast.FunctionDef, lines: list[str]) -> int:
    """The body's first line, of a function without a docstring: comments belong to it."""
    first = function.body[0].lineno
    signature = [function, *function.args.args, *([function.returns] if function.returns else [])]
    if first in {node.lineno for node in signature}:
        raise CutError(f"function {function.name} has a statement beside its signature")
    while first > function.lineno + 1 and lines[first - 2].lstrip(" \t")[:1] in ("", "#"):
        first -= 1
    return first


def _reindented(lines: list[str], function: ast.FunctionDef, first_line: int) -> str:
    """The lines from line `first_line` on, indented by four spaces instead of their own.

    Blank lines become empty. Lines within a multi-line string are data and stay unchanged.
    """
    statements = [node for node in function.body if node.lineno >= first_line]
    inside = _lines_within_strings(statements)
    line = lines[statements[0].lineno - first_line]
    indent = line[: len(line) - len(line.lstrip(" \t\f"))]

    def reindented(number: int, line: str) -> str:
        if number in inside:
            return line
        if not line.strip(" \t"):
            return ""
        return _INDENT + line.removeprefix(indent) if line.startswith(indent) else line

    body = [reindented(number, line) for number, line in enumerate(lines, start=first_line)]
    return "\n".join(body).strip("\n").rstrip()


def _lines_within_strings(statements: list[ast.stmt]) -> set[int]:
    """Numbers of lines that begin within a string."""
    inside: set[int] = set()
    for statement in statements:
        if statement.end_lineno == statement.lineno:
            continue  # a quick way out: no string of several lines fits in one
        for node in ast.walk(statement):
            if isinstance(node, (ast.Constant, ast.JoinedStr)) and node.end_lineno:
                inside.update(range(node.lineno + 1, node.end_lineno + 1))
    return inside
