"""Corrected gold answers of a benchmark, from a file that names questions and sources.

    corrections = read("shipped")            # {"d02f…": Correction(gold=6.0, source="…"), …}
    corrections.get(question_key(text))

Each line is a JSON object: `question_sha256`, the SHA-256 of the question's text in UTF-8 without
white space around it; `gold`, a number, or `"removed"` for a question that has no single right
answer; `source`, who says so; optionally `why`. The shipped file lists GSM8K test questions whose
own solution computes another number than their gold.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data import tables
from training.errors import DataError
from training.execution.numbers import read_gold
from training.hub import local_path
from training.records import Question

SHIPPED = "shipped"
REMOVED = "removed"
_FILE = Path(__file__).with_name("gsm8k_corrections.jsonl")
_SETTING = "evaluation.corrections"
_KEYS = {"question_sha256", "gold", "source", "why"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Correction:
    """What is to be done with one question."""

    gold: float | None
    """The right answer; None: the question is removed."""
    source: str


Corrections = Mapping[str, Correction]
"""By `question_key`."""


def question_key(text: str) -> str:
    """The SHA-256 of a question's text."""
    return hashlib.sha256(text.strip().encode()).hexdigest()


def path_of(setting: str) -> Path:
    """The file that `evaluation.corrections` names.

    Raises:
        DataError: there is none.
    """
    if setting == SHIPPED:
        return _FILE
    found = local_path(setting, _SETTING)
    if found is None or not found.is_file():
        raise DataError(f"{_SETTING} = {setting!r} is no file: name one, or {SHIPPED!r}")
    return found


def read(setting: str) -> Corrections:
    """The corrections of the file that `evaluation.corrections` names; none if it is empty.

    Raises:
        DataError: the file is missing, or a line of it is not of the form above; names the line.
    """
    found: dict[str, Correction] = {}
    if not setting:
        return found
    path = path_of(setting)
    for number, row in enumerate(tables.rows_of([path]), start=1):
        place = f"{path}, correction {number}"
        key, correction = _correction(row, place)
        if key in found:
            raise DataError(f"{place} corrects the same question as an earlier one")
        found[key] = correction
    if not found:
        raise DataError(f"{_SETTING} = {setting!r} holds no correction")
    return found


def _correction(row: Mapping[str, Any], place: str) -> tuple[str, Correction]:
    if unknown := sorted(row.keys() - _KEYS):
        known = ", ".join(sorted(_KEYS))
        raise DataError(f"{place} has the key {unknown[0]!r}: it may have {known}")
    key, gold, source = (row.get(name) for name in ("question_sha256", "gold", "source"))
    if not isinstance(key, str) or not re.fullmatch("[0-9a-f]{64}", key):
        raise DataError(f"{place}: question_sha256 is {json.dumps(key)}: 64 hex digits are needed")
    if not isinstance(source, str) or not source.strip():
        raise DataError(f"{place} has no source: say who found the gold to be wrong")
    if gold == REMOVED:
        return key, Correction(gold=None, source=source)
    try:
        return key, Correction(gold=read_gold(gold), source=source)
    except ValueError as error:
        raise DataError(f"{place}: {error}, or {REMOVED!r}") from None


def refuse_unmatched(corrections: Corrections, questions: Iterable[Question]) -> None:
    """Raise where there are corrections and none is of a question that is evaluated.

    Raises:
        DataError: says so.
    """
    if corrections and not any(question_key(each.text) in corrections for each in questions):
        raise DataError(
            f"{_SETTING} corrects {len(corrections)} questions, none of which is evaluated: add "
            "their benchmark (the shipped file is of GSM8K's test split), or leave it out"
        )
