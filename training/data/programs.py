"""TinyGSM's program format: how a question becomes a prompt and a body a program.

    def simple_math_problem() -> int:
        \"\"\"
        <question>
        \"\"\"
        <body>

The signature and the docstring are the prompt; the model writes the body
(arXiv 2312.09241, section 2; that the prompt ends there is our reading).
"""

import ast
import textwrap

FUNCTION = "simple_math_problem"
_PROMPT = 'def simple_math_problem() -> int:\n    """\n    {question}\n    """\n'


def prompt(question: str) -> str:
    """The text the model is given: signature and docstring, ending in a newline."""
    return _PROMPT.format(question=question.replace("\\", "\\\\").replace('"""', "'''"))


def source(question: str, program: str) -> str:
    """The whole function, ready to run: the prompt and the body the model wrote."""
    return prompt(question) + program + "\n"


def split(code: str) -> tuple[str, str]:
    """Cut a whole TinyGSM function into (question, body).

    The body is what follows the docstring, re-indented to four spaces, comments kept,
    anything after the function dropped. Both docstring delimiters occur in the wild.

    Raises:
        ValueError: the code does not parse, holds no function, or its first function
            has no docstring or no body.
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
    # By lines, not by nodes: comments between statements belong to the program.
    docstring_end = function.body[0].end_lineno
    lines = code.splitlines()[docstring_end : function.end_lineno]
    body = textwrap.indent(textwrap.dedent("\n".join(lines)).strip("\n"), "    ")
    return question.strip(), body.rstrip()
