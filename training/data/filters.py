"""Decides which examples are dropped for their question or for their program's result.

The criteria are the paper's (arXiv 2312.09241, section 2): too short, no number, does not run.
Each check returns the reason to drop an example, or None. No program is run here. What is only
written wrongly in a question is repaired instead.
"""

import re

from training.data import reasons
from training.records import Execution

NUMBER_WORDS = frozenset(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety "
    "hundred thousand million half halves third thirds quarter quarters once twice thrice double "
    "triple dozen dozens couple pair".split()
)
"""Words that state a number or a ratio without a digit."""
_DIGIT = re.compile(r"\d")
_NUMBER_WORD = re.compile(rf"\b(?:{'|'.join(sorted(NUMBER_WORDS))})\b", re.IGNORECASE)

# Markdown's and LaTeX's escapes: a question states a price as `$5`, not as `\$5`.
_ESCAPE = re.compile(r"\\([$%#&_*'\"])")
_DELIMITER_CHARACTERS = "`\"'-=*"
_DELIMITER = r"(?:`{3,}|\"{3,}|'{3,}|[-=*]{3,})"
_DELIMITERS = re.compile(rf"\A(?:{_DELIMITER}\s*)+|(?:\s*{_DELIMITER})+\Z")
"""Fences, docstring delimiters and rules around the question, left over from a longer answer."""


def question_fault(question: str, *, min_characters: int) -> str | None:
    """Why the question is dropped: it is too short, or holds no number."""
    if len(question) < min_characters:
        return reasons.TOO_SHORT
    if not _DIGIT.search(question) and not _NUMBER_WORD.search(question):
        return reasons.NO_NUMBER
    return None


def repaired_question(question: str) -> tuple[str, list[str]]:
    """The question without escapes and delimiters around it, and what was repaired."""
    repaired: list[str] = []
    if "\\" in question:
        question, count = _ESCAPE.subn(r"\1", question)
        repaired += [reasons.ESCAPE] * bool(count)
    # Searching the whole question takes a third of the time that preparing a row does.
    if question[:1] in _DELIMITER_CHARACTERS or question[-1:] in _DELIMITER_CHARACTERS:
        bare, count = _DELIMITERS.subn("", question)
        if count:
            return bare.strip(), [*repaired, reasons.DELIMITER]
    return question, repaired


def execution_fault(execution: Execution) -> str | None:
    """Why the program is dropped, given the result of running it."""
    return None if execution.status == "ok" else reasons.FAILED[execution.status]
