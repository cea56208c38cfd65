"""Forms in which a synthetic set is damaged, each in a small fraction of the rows."""

from collections.abc import Callable

from training.data.problems.words import Draw

FRACTIONS = {
    "fenced": 0.003,
    "prose before the code": 0.002,
    "prose after the code": 0.001,
    "prints the result": 0.005,
    "no docstring": 0.003,
    "cut off": 0.003,
    "docstring not indented": 0.001,
    "undefined name": 0.003,
    "division by zero": 0.001,
    "returns text": 0.003,
    "returns nothing": 0.001,
    "imports math": 0.004,
    "imports sympy": 0.0005,
    "never ends": 0.00001,
    "no number in the question": 0.003,
    "short question": 0.002,
    "empty question": 0.0002,
    "empty code": 0.0002,
    "two line ends": 0.0005,
}
"""The fraction of the rows in each form. Between them are forms that a reader can mend, programs
that fail, and questions that a filter drops."""

_STEPS: list[tuple[float, str]] = []
for _name, _fraction in FRACTIONS.items():
    _STEPS.append(((_STEPS[-1][0] if _STEPS else 0.0) + _fraction, _name))
TOTAL = _STEPS[-1][0]

_PROSE = (
    "Here is the Python function that solves the problem:\n\n",
    "Sure! Here is a solution:\n\n",
    "The problem can be solved as follows.\n\n",
)
_AFTER = (
    "\n\nThe function returns the answer to the question.",
    "\n\nThis gives the final result.",
    "\n\n# Output: the number asked for",
)
_VAGUE = (
    "Some children share a bag of sweets equally. How many sweets does each child get?",
    "A farmer sells all of his eggs at the market. How much money does he earn?",
    "A family drives to the sea and back. How many miles do they drive in all?",
    "A baker makes bread every morning. How many loaves are made in a week?",
)
_SHORT = ("What is {} + {}?", "{} - {} = ?", "{} times {}?", "Add {} and {}.")


def form_of(draw: Draw) -> str:
    """The form of the next row; empty for most."""
    number = draw.random()
    if number >= TOTAL:
        return ""
    return next(name for end, name in _STEPS if number < end)


def damaged(form: str, question: str, code: str, draw: Draw) -> tuple[str, str]:
    """Question and code of a row in this form."""
    if form in _CODE_FORMS:
        return question, _CODE_FORMS[form](code, draw)
    if form == "empty question":
        return "", code
    asked = draw.pick(_VAGUE)
    if form == "short question":
        asked = draw.pick(_SHORT).format(draw.between(2, 99), draw.between(2, 99))
    return asked, code.replace(_docstring(code), f'"""\n    {asked}\n    """')


def _docstring(code: str) -> str:
    """The docstring with its delimiters."""
    first = code.split("\n", 2)[1].strip()[:3]
    return first + code.split(first, 2)[1] + first


def _with_return(code: str, text: str) -> str:
    """The code with another last statement."""
    head, _, tail = code.rpartition("    return ")
    name, _, rest = tail.partition("\n")
    return head + text.format(name=name) + ("\n" + rest if rest else "")


def _not_indented(code: str, _: Draw) -> str:
    return code.replace("\n    ", "\n")


def _cut_off(code: str, draw: Draw) -> str:
    return code[: draw.between(len(code) * 2 // 3, len(code) - 12)].rstrip() + " = ("


_CODE_FORMS: dict[str, Callable[[str, Draw], str]] = {
    "fenced": lambda code, draw: (
        f"```{draw.pick(('python', 'python', 'py', ''))}\n{code.rstrip()}\n```"
    ),
    "prose before the code": lambda code, draw: draw.pick(_PROSE) + code,
    "prose after the code": lambda code, draw: code.rstrip() + draw.pick(_AFTER),
    "prints the result": lambda code, _: code.rstrip() + "\n\nprint(simple_math_problem())\n",
    "no docstring": lambda code, _: code.replace(f"    {_docstring(code)}\n", "", 1),
    "cut off": _cut_off,
    "docstring not indented": _not_indented,
    "undefined name": lambda code, _: _with_return(code, "    return final_{name}"),
    "division by zero": lambda code, _: _with_return(code, "    return {name} / (2 - 2)"),
    "returns text": lambda code, _: _with_return(code, '    return f"The answer is {{{name}}}."'),
    "returns nothing": lambda code, _: _with_return(code, "    print({name})"),
    "imports math": lambda code, _: _with_return(
        code, "    import math\n\n    return math.floor({name})"
    ),
    "imports sympy": lambda code, _: _with_return(
        code,
        "    from sympy import symbols, solve\n    x = symbols('x')\n"
        "    return solve(x - {name}, x)[0]",
    ),
    "never ends": lambda code, _: _with_return(
        code, "    while {name} != 0:\n        {name} += 1\n    return {name}"
    ),
    "empty code": lambda code, _: "",
    "two line ends": lambda code, _: code.replace("\n", "\r\n"),
}
