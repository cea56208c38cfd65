"""Reads examples from five kinds of sources through one interface.

    for raw in rows(source):                 # a stream; memory does not grow with the source
        example = example_of(source, raw)    # pure; raises DroppedError with the reason

Reading and converting are separate, so that one process reads while many convert.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training import hub
from training.config import SourceConfig
from training.data import candidates, gsm8k, programs, reasons, tables
from training.data.balance import order_of
from training.data.benchmarks import difficulty_of
from training.data.problems import write_problem
from training.errors import DataError
from training.records import Candidate, Example

Raw = Any
"""A row as it was read: cheap to send to another process."""

_SETTING = "path of a source"
_ENDINGS = {"parquet": tables.PARQUET, "jsonl": tables.JSON}
"""File endings by kind; GSM8K is published in both formats."""


class DroppedError(ValueError):
    """The row gives no example; the message is a short reason that can be counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelled:
    """An example, with its label if it is for a verifier."""

    example: Example
    right: bool | None = None
    """Whether a candidate's program was right; None for a generator's example."""
    order: int = 0
    """A candidate's `balance.order_of`."""
    keys: NDArray[np.uint64] | None = None
    """[columns] Equal in one of them: duplicates (`signatures`); set once all are compared."""


def examples(source: SourceConfig) -> Iterator[Example]:
    """The source's examples in order; rows that give none are skipped.

    Raises:
        DataError: its file, folder or hub data set is missing or cannot be read.
    """
    for raw in rows(source):
        try:
            yield example_of(source, raw).example
        except DroppedError:
            continue


def rows(source: SourceConfig) -> Iterator[Raw]:
    """The source's rows in order, at most `num_examples`.

    Raises:
        DataError: its file, folder or hub data set is missing, or something in it cannot be read
            and `damaged` is `refuse`.
    """
    return islice(
        _sound(source) if source.damaged == "refuse" else _rows(source), source.num_examples or None
    )


def _sound(source: SourceConfig) -> Iterator[Raw]:
    for raw in _rows(source):
        if isinstance(raw, tables.Damaged):
            raise DataError(
                f"{raw.message}. Repair it, or set damaged = 'skip' in the source to skip and "
                "count what cannot be read"
            )
        yield raw


def num_rows(source: SourceConfig) -> int:
    """The number of rows, for progress; 0 if only reading the whole source would show it."""
    files = files_of(source)
    if source.kind == "problems" or (not files and source.num_examples):
        return source.num_examples
    in_files = tables.num_rows(files)
    return min(in_files, source.num_examples) if source.num_examples else in_files


def files_of(source: SourceConfig) -> list[Path]:
    """The local files that the source reads; none for the built-in problems and the hub.

    Raises:
        DataError: its file or folder is missing.
    """
    if source.kind == "problems":
        return []
    path = hub.local_path(source.path, _SETTING)
    if path is None:
        return []
    if source.kind == "candidates":
        try:
            return candidates.files_at(path)
        except FileNotFoundError as error:
            raise DataError(str(error)) from error
    if source.kind == "gsm8k" and (path / gsm8k.HUB_CONFIG).is_dir():
        path = path / gsm8k.HUB_CONFIG
    endings = _ENDINGS.get(source.kind, tables.PARQUET + tables.JSON)
    return tables.files_at(path, split=source.split, setting=_SETTING, endings=endings)


def example_of(source: SourceConfig, raw: Raw) -> Labelled:
    """The example that one row gives.

    Raises:
        DroppedError: it gives none.
        DataError: the row does not have the columns of the source's kind.
    """
    if isinstance(raw, tables.Damaged):
        raise DroppedError(raw.reason)
    if source.kind == "problems":
        problem = write_problem(
            source.seed,
            raw,
            difficulty_of(source.difficulty),
            misread_fraction=source.misread_fraction,
        )
        return Labelled(example=Example(question=problem.question, program=problem.program))
    if source.kind == "candidates":
        return _of_candidate(raw)
    example = _of_gsm8k(source, raw) if source.kind == "gsm8k" else _of_table(source, raw)
    if not _is_unicode(example.question + example.program):
        raise DroppedError(reasons.HALF_CHARACTER)
    return Labelled(example=example)


def stated_question(source: SourceConfig, raw: Raw) -> str:
    """The question that a row states in a column of its own, read without its program.

    Empty where the row has no such column or is of a kind without columns.
    """
    if source.kind not in ("parquet", "jsonl", "gsm8k") or isinstance(raw, tables.Damaged):
        return ""
    return _text(raw, "question").strip()


def _is_unicode(text: str) -> bool:
    """Whether the text has no lone surrogates, which JSON's escapes allow and tokenizers do not."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _rows(source: SourceConfig) -> Iterator[Raw]:
    if source.kind == "problems":
        yield from range(source.num_examples)
        return
    files = files_of(source)
    if source.kind == "candidates":
        if not files:
            raise DataError(f"{_SETTING} = {source.path!r}: there are no candidates")
        for path in files:
            yield from candidates.read_or_damage(path)
    elif files:
        yield from tables.rows_or_damage(files, _parquet_columns(source))
    else:
        name = gsm8k.HUB_CONFIG if source.kind == "gsm8k" else None
        yield from hub.stream(source.path, name=name, split=source.split, setting=_SETTING)


def _parquet_columns(source: SourceConfig) -> tuple[str, ...]:
    if source.kind == "gsm8k":
        return ("question", "answer")
    return ("question", "code") if source.kind == "parquet" else ()


def _of_gsm8k(source: SourceConfig, row: tables.Row) -> Example:
    _require(source, row, "question", "answer")
    question, answer = _text(row, "question").strip(), _text(row, "answer")
    try:
        return Example(question=question, program=gsm8k.program_of(question, answer))
    except gsm8k.NoProgramError as error:
        raise DroppedError(f"GSM8K: {error}") from error


def _of_table(source: SourceConfig, row: tables.Row) -> Example:
    """A row with `code`, a whole function, or with `question` and `program`, its body."""
    question = _text(row, "question").strip()
    if row.get("program"):
        _require(source, row, "question")
        return Example(question=question, program=_text(row, "program").strip("\n").rstrip())
    _require(source, row, "code")
    try:
        docstring, program = programs.split(_text(row, "code"))
    except ValueError as error:
        raise DroppedError(reasons.NOT_CUT) from error
    return Example(question=question or docstring, program=program)


def _of_candidate(candidate: Candidate) -> Labelled:
    # An unfinished program has no end token, at which the verifier's score is read, and no result
    # that could be selected: labelling it would teach the verifier nothing but lengths. A finished
    # one that fails is as wrong as one that gives another number.
    if not candidate.finished:
        raise DroppedError(reasons.NOT_FINISHED)
    return Labelled(
        example=Example(question=candidate.question, program=candidate.program),
        right=candidate.verdict == "right",
        order=order_of(candidate),
    )


def _text(row: tables.Row, column: str) -> str:
    text = row.get(column)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise DroppedError(f"{column} is no text")
    return text


def _require(source: SourceConfig, row: tables.Row, *columns: str) -> None:
    missing = [column for column in columns if not row.get(column)]
    if missing and source.damaged == "refuse" and not all(column in row for column in columns):
        raise DataError(
            f"{source.path} has no column {', '.join(missing)}, which a source of kind "
            f"{source.kind!r} needs: it has {', '.join(row)}"
        )
    if missing:
        raise DroppedError(f"empty {', '.join(missing)}")
