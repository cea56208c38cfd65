import gzip
import itertools
import json
import warnings
from collections import Counter

import pytest

from tests.training.data.real import real_data
from training.execution.programs import source
from training.execution.sandbox.cutting import FENCE, NO_DOCSTRING, PROSE, CutError, cut

BODY = "    apples = 3\n    # and pears\n\n    result = apples * 2\n    return result"
ODD_LINE_ENDS = ["\u2028", "\u2029", "\x0c", "\x0b", "\x1c", "\x1d", "\x1e", "\x85"]
"""Ends of a line to `str.splitlines`, and none to Python's parser."""


def split(code: str, question: str = "") -> tuple[str, str]:
    parts = cut(code, question)
    assert not parts.repairs
    return parts.question, parts.program


def test_a_function_is_cut_into_question_and_body() -> None:
    assert split(source("How many?", BODY)) == ("How many?", BODY)
    assert split(source("How many?", BODY) + "\nprint(simple_math_problem())\n")[1] == BODY
    assert split(source("How many?", BODY).replace("\n", "\r\n")) == ("How many?", BODY)
    assert split(source("How many?", BODY).replace('"""', "'''"))[1] == BODY


@pytest.mark.parametrize("character", ODD_LINE_ENDS)
def test_only_the_parser_s_line_ends_count(character: str) -> None:
    question = f"Ann has 3.{character}{character}How many?"
    assert split(source(question, BODY)) == (question, BODY)
    body = f"    # three{character}four\n    x = 'a{character}b'\n    return 3"
    assert split(source(question, body)) == (question, body)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("  if x:\n     y = 1\n  \n  return y", "    if x:\n       y = 1\n\n    return y"),
        ("\tif x:\n\t\ty = 1\n\treturn y", "    if x:\n    \ty = 1\n    return y"),
        ("    x = (\n1 +\n2)\n    return x", "    x = (\n1 +\n2)\n    return x"),
        ("    x = 1\n# aside\n    return x", "    x = 1\n# aside\n    return x"),
        (
            '  x = """a\n  b\n\n   \nc"""\n  return len(x)',
            '    x = """a\n  b\n\n   \nc"""\n    return len(x)',
        ),
        ('  x = f"""{1}\n  b"""\n  return len(x)', '    x = f"""{1}\n  b"""\n    return len(x)'),
        ("  x = 'a\\\n  b'\n  return len(x)", "    x = 'a\\\n  b'\n    return len(x)"),
    ],
)
def test_indentation_becomes_four_spaces_and_strings_stay(body: str, expected: str) -> None:
    first = body[: len(body) - len(body.lstrip())]
    code = f'def f(x=1):\n{first}"""Q?"""\n{body}\n'
    assert split(code) == ("Q?", expected)
    before: dict[str, object] = {}
    after: dict[str, object] = {}
    exec(code + "value = f()", before)
    exec(source("Q?", expected).replace("()", "(x=1)") + "value = simple_math_problem()", after)
    assert after["value"] == before["value"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def f(:", "does not parse"),
        ("x = 1", "no function"),
        ("def f():\n    return 1", "no docstring"),
        ('def f():\n    """Q?"""', "no body"),
        ('def f():\n    """Q?"""; x = 1\n    return x', "on its docstring's last line"),
        ('def f(): "Q?"; return 1', "on its docstring's last line"),
    ],
)
def test_what_cannot_be_cut_says_why(code: str, message: str) -> None:
    with pytest.raises(CutError, match=message):
        split(code)


def test_recorded_programs_that_can_be_cut_compile_again() -> None:
    num_cut = Counter[tuple[str, ...]]()
    with (
        warnings.catch_warnings(),
        gzip.open(real_data("programs/programs.jsonl.gz"), "rt", encoding="utf-8") as stream,
    ):
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        for line in itertools.islice(stream, 9, None, 10):
            try:
                parts = cut(json.loads(line)["code"])
            except CutError:
                continue
            compile(source(parts.question, parts.program), "<program>", "exec")
            num_cut[parts.repairs] += 1
    assert num_cut[()] == 1_509


FUNCTION = source("How many?", BODY)


@pytest.mark.parametrize(
    ("code", "repairs"),
    [
        (f"```python\n{FUNCTION}```\n", (FENCE,)),
        (f"```\n{FUNCTION}\n", (FENCE,)),
        (f"Sure! Here is the code:\n\n```python\n{FUNCTION}```\nIt adds the apples.", (FENCE,)),
        (f"Let's see:\n```\n3 * 4\n```\nSo:\n```py\n{FUNCTION}\n```", (FENCE,)),
        (f"Here is the code:\n{FUNCTION}", (PROSE,)),
        (f"{FUNCTION}\nThis function doubles the apples.\n", (PROSE,)),
        (f"Here it is.\n{FUNCTION}\nI hope that it helps!\n    Bye", (PROSE,)),
        (f"```python\nThe code:\n{FUNCTION}\nThat's all.\n```", (FENCE, PROSE)),
    ],
)
def test_what_is_around_the_function_is_taken_off_and_counted(
    code: str, repairs: tuple[str, ...]
) -> None:
    parts = cut(code)
    assert (parts.question, parts.program, parts.repairs) == ("How many?", BODY, repairs)


@pytest.mark.parametrize(
    ("code", "program", "repairs"),
    [
        (f"def f():\n{BODY}\n", BODY, (NO_DOCSTRING,)),
        (f'def f():\n    """"""\n{BODY}\n', BODY, (NO_DOCSTRING,)),
        ("def f(\n):\n\n  # three\n  return 3", "    # three\n    return 3", (NO_DOCSTRING,)),
        (f"```\ndef f():\n{BODY}\n```", BODY, (FENCE, NO_DOCSTRING)),
        (FUNCTION, BODY, ()),
    ],
)
def test_a_question_that_is_given_wins_and_replaces_a_missing_docstring(
    code: str, program: str, repairs: tuple[str, ...]
) -> None:
    parts = cut(code, "Why?")
    assert (parts.question, parts.program, parts.repairs) == ("Why?", program, repairs)


def test_what_parses_as_it_stands_is_not_repaired() -> None:
    body = "    text = '''\n```python\nx = 1\n```\n'''\n    return len(text)"
    assert split(source("How many?", body)) == ("How many?", body)


@pytest.mark.parametrize(
    "code", ["", "No code.", "```\n```", "def f(:\n    return 1", "```python\nx = 1", "def \n    x"]
)
def test_what_no_mend_helps_says_why(code: str) -> None:
    with pytest.raises(CutError):
        cut(code, "Why?")


def test_a_statement_beside_the_signature_is_not_taken_for_a_body() -> None:
    with pytest.raises(CutError, match="beside its signature"):
        cut("def f(): return 1", "Why?")
