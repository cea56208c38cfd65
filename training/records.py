"""The records that travel between the stages of the recipe.

Plain frozen data without behaviour and without heavy imports, so that every room of
the project can name them. On disk they are Parquet or JSON lines with the same
field names.
"""

from dataclasses import dataclass, field
from typing import Literal

ExecutionStatus = Literal["ok", "nonnumeric", "error", "timeout", "memory", "output"]
"""How running a program ended. Only `ok` carries a finite number."""

Verdict = Literal["right", "wrong", "failed"]
"""The executed result against gold: `failed` when there was no number to compare."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One question with its program: what a generator learns from."""

    question: str
    """The question's text, no surrounding white space."""
    program: str
    """The function's body as the model writes it after the prompt: indented by four
    spaces, from its first statement through `return result`, no trailing newline."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One question with its gold answer: what benchmarks and sampling ask."""

    id: str
    """Unique within its set, stable across runs: `gsm8k-test-17`."""
    text: str
    gold: float
    tags: dict[str, str | int] = field(default_factory=dict[str, str | int])
    """What results may be drawn by, e.g. `{"operations": 4, "story": "bakery"}`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """What came of running one program. Gold never enters the process that ran it."""

    status: ExecutionStatus
    value: float | None = None
    """The finite number the program gave; None unless `status` is `ok`."""
    error: str = ""
    """Why there is no number, one line: `ZeroDivisionError: division by zero`."""
    tier: Literal["monty", "cpython", "none"] = "none"
    """Who ran it; `none` when it never ran (it does not compile)."""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One sampled program with what is known of it."""

    question_id: str
    question: str
    program: str
    """The body the model wrote, as in `Example.program`."""
    generator: str
    """The checkpoint it was sampled from, e.g. `step_400`."""
    temperature: float
    """0 is greedy."""
    index: int
    """Position among the candidates of this question, from 0."""
    status: ExecutionStatus
    value: float | None
    error: str
    verdict: Verdict
    num_tokens: int
    """Tokens the model wrote, the end token included when it wrote one."""
    finished: bool
    """Whether it wrote the end token before running out of tokens."""
    score: float | None = None
    """The verifier's output at the last token; None before scoring."""
