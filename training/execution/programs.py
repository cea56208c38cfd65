"""Defines TinyGSM's program format: a question's prompt, and the program made of its body.

    def simple_math_problem() -> int:
        \"\"\"
        <question>
        \"\"\"
        <body>

The signature and the docstring are the prompt; the model writes the body (arXiv 2312.09241,
section 2, which does not state where the prompt ends: this is our interpretation). Cutting a
whole function into the two parses it, which only the sandbox may do: sandbox/cutting.py.
"""

FUNCTION = "simple_math_problem"
_PROMPT = 'def simple_math_problem() -> int:\n    """\n    {question}\n    """\n'


def prompt(question: str) -> str:
    """The text that the model continues: signature and docstring, ending in a newline."""
    return _PROMPT.format(question=question.replace("\\", "\\\\").replace('"""', "'''"))


def source(question: str, program: str) -> str:
    """The whole function, ready to run: the prompt and the body the model wrote."""
    return prompt(question) + program + "\n"
