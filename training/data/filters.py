"""Decides which examples are dropped for their question or for their program's result.

The criteria are the paper's (arXiv 2312.09241, section 2): too short, no number, does not run.
Each check returns the reason to drop an example, or None. No program is run here.
"""

import re

from training.records import Execution

NUMBER_WORDS = frozenset(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety "
    "hundred thousand million half halves third thirds quarter quarters once twice thrice double "
    "triple dozen dozens couple pair".split()
)
"""Words that state a number or a ratio without a digit."""
_NUMBER = re.compile(rf"\d|\b(?:{'|'.join(sorted(NUMBER_WORDS))})\b", re.IGNORECASE)

_EXECUTION_REASONS = {
    "error": "program fails",
    "nonnumeric": "program gives no finite number",
    "timeout": "program runs too long",
    "memory": "program needs too much memory",
    "output": "program prints too much",
}


def question_fault(question: str, *, min_characters: int) -> str | None:
    """Why the question is dropped: it is too short, or holds no number."""
    if len(question) < min_characters:
        return "question too short"
    if not _NUMBER.search(question):
        return "question without a number"
    return None


def execution_fault(execution: Execution) -> str | None:
    """Why the program is dropped, given the result of running it."""
    return None if execution.status == "ok" else _EXECUTION_REASONS[execution.status]
