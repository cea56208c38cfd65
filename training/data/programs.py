"""Defines TinyGSM's program format: a question's prompt, and the program made of its body.

    def simple_math_problem() -> int:
        \"\"\"
        <question>
        \"\"\"
        <body>

The signature and the docstring are the prompt; the model writes the body (arXiv 2312.09241,
section 2, which does not state where the prompt ends: this is our interpretation).
"""

import ast
import re

FUNCTION = "simple_math_problem"
_INDENT = "    "
_LINE_END = re.compile(r"\r\n|\r|\n")
"""Line ends of Python's parser. `str.splitlines` also splits at form feeds, U+2028, …"""
_PROMPT = 'def simple_math_problem() -> int:\n    """\n    {question}\n    """\n'


def prompt(question: str) -> str:
    """The text that the model continues: signature and docstring, ending in a newline."""
    return _PROMPT.format(question=question.replace("\\", "\\\\").replace('"""', "'''"))


def source(question: str, program: str) -> str:
    """The whole function, ready to run: the prompt and the body the model wrote."""
    return prompt(question) + program + "\n"


def split(code: str) -> tuple[str, str]:
    """Split a whole TinyGSM function into (question, body).

    The body is the code after the docstring, re-indented to four spaces, with its comments.
    Anything after the function is dropped. Either docstring delimiter is accepted.

    Raises:
        ValueError: the code does not parse, holds no function, or its first function
            has no docstring or no body, or the body begins on the docstring's last line.
    """
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"the code does not parse: {error}") from error
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    if not functions:
        raise ValueError("the code defines no function")
    function = functions[0]
    question = ast.get_docstring(function)
    if not question:
        raise ValueError(f"function {function.name} has no docstring")
    if len(function.body) < 2:
        raise ValueError(f"function {function.name} has no body after its docstring")
    docstring, first = function.body[:2]
    if first.lineno == docstring.end_lineno:
        raise ValueError(f"function {function.name} has a statement on its docstring's last line")
    # By lines, not by nodes: comments between statements belong to the program.
    lines = _LINE_END.split(code)[docstring.end_lineno : function.end_lineno]
    return question.strip(), _reindented(lines, function, docstring.end_lineno or 0)


def _reindented(lines: list[str], function: ast.FunctionDef, offset: int) -> str:
    """The lines after line `offset`, indented by four spaces instead of their own indentation.

    Blank lines become empty. Lines within a multi-line string are data and stay unchanged.
    """
    inside: set[int] = set()
    """Numbers of lines that begin within a string."""
    for node in ast.walk(function):
        if isinstance(node, (ast.Constant, ast.JoinedStr)) and node.end_lineno:
            inside.update(range(node.lineno + 1, node.end_lineno + 1))
    first = lines[function.body[1].lineno - offset - 1]
    indent = first[: len(first) - len(first.lstrip(" \t\f"))]

    def reindented(number: int, line: str) -> str:
        if number in inside:
            return line
        if not line.strip(" \t"):
            return ""
        return _INDENT + line.removeprefix(indent) if line.startswith(indent) else line

    body = [reindented(number, line) for number, line in enumerate(lines, start=offset + 1)]
    return "\n".join(body).strip("\n").rstrip()
