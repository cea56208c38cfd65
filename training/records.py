"""Defines the records that stages pass to each other: questions, examples, candidates, results.

Plain frozen data without behaviour and without heavy imports, so that every package can import
them. On disk they are Parquet or JSON lines with the same field names.
"""

from dataclasses import dataclass, field
from typing import Literal

ExecutionStatus = Literal["ok", "nonnumeric", "error", "timeout", "memory", "output"]
"""How running a program ended. Only `ok` carries a finite number."""

Verdict = Literal["right", "wrong", "failed"]
"""The executed result compared with gold; `failed` if there was no number to compare."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One question with its program: what a generator learns from."""

    question: str
    """The question's text, no surrounding white space."""
    program: str
    """The function's body as the model writes it after the prompt: indented by four
    spaces, from its first statement through `return result`, no trailing newline. Of a source of
    prose its text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One question with its gold answer, from a benchmark or a set to sample on."""

    id: str
    """Unique within its set, stable across runs: `gsm8k-test-17`."""
    text: str
    gold: float
    tags: dict[str, str | int] = field(default_factory=dict[str, str | int])
    """Properties to group results by, e.g. `{"operations": 4, "story": "bakery"}`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """The result of running one program. Gold never enters the process that ran it."""

    status: ExecutionStatus
    value: float | None = None
    """The finite number that the program returned; None unless `status` is `ok`."""
    error: str = ""
    """Why there is no number, one line: `ZeroDivisionError: division by zero`."""
    tier: Literal["monty", "cpython", "none"] = "none"
    """The interpreter that ran it; `none` if it did not compile and so never ran."""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One sampled program with its result and its score."""

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
    """Whether it wrote the end token before reaching the limit of tokens."""
    score: float | None = None
    """The verifier's output at the last token; None before scoring."""
