"""Reads examples from all kinds of sources through one interface.

    for chunk in chunks(source, 1024):           # a stream; memory does not grow with the source
        for raw in rows_of(source, chunk):       # in any process
            example = example_of(source, raw)    # pure; raises DroppedError with the reason

Reading and converting are separate, so that one process reads while many convert. A row that
holds a whole function gives an example without a program, since only the sandbox may parse it:
`complete` adds what the sandbox has cut it into.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training import hub, remote
from training.config import SourceConfig
from training.data import candidates, gsm8k, locations, mapped, reasons, tables
from training.data.balance import order_of
from training.data.benchmarks import difficulty_of
from training.data.chunks import Damaged, Piece, RawChunk, Rows, chunked
from training.data.locations import FetchCache, Files
from training.data.problems import write_problem
from training.errors import DataError
from training.execution.executor import CutProgram, Cutter, RawProgram
from training.records import Candidate, Example, Execution

Raw = Any
"""A row as it was read."""

_SETTING = "path of a source"
_ROWS_AT_ONCE = 1024
_ENDINGS = {"parquet": tables.PARQUET, "jsonl": tables.JSON}
"""File endings by kind; GSM8K is published in both formats."""
_ROWS_TOGETHER = 32
"""Rows of `examples` that go to the sandbox together."""


class DroppedError(ValueError):
    """The row gives no example; the message is a short reason that can be counted."""


@dataclass(kw_only=True, slots=True)
class Labelled:
    """An example, with its label if it is for a verifier; completed step by step."""

    example: Example
    raw: RawProgram | None = None
    """The function that the example still has to be cut from: it has no program yet, and a
    question only if the row states one."""
    execution: Execution | None = None
    """The result of running the program, where that was done as it was cut."""
    right: bool | None = None
    """Whether a candidate was right; None for a generator's example, and until it is compared
    with `gold`."""
    gold: float | None = None
    """The gold answer that its answer is still to be compared with."""
    order: int = 0
    """A candidate's `balance.order_of`."""
    keys: NDArray[np.uint64] | None = None
    """[columns] Equal in one of them: duplicates (`signatures`); set once all are compared."""


def examples(source: SourceConfig) -> Iterator[Example]:
    """The source's examples in order; rows that give none are skipped.

    Raises:
        DataError: its file, folder or hub data set is missing or cannot be read.
    """
    found = rows(source)
    with Cutter() as cutter:
        while group := list(islice(found, _ROWS_TOGETHER)):
            labelled: list[Labelled] = []
            for raw in group:
                with suppress(DroppedError):
                    labelled.append(example_of(source, raw))
            parts = iter(cutter.cut([each.raw for each in labelled if each.raw is not None]))
            for each in labelled:
                with suppress(DroppedError):
                    yield (complete(each, next(parts)) if each.raw else each).example


def rows(source: SourceConfig) -> Iterator[Raw]:
    """The source's rows in order, at most `num_examples`. Raises as `chunks` and `rows_of`."""
    for chunk in chunks(source, _ROWS_AT_ONCE):
        yield from rows_of(source, chunk)


def chunks(source: SourceConfig, num_rows: int) -> Iterator[RawChunk]:
    """The source's rows in order, at most `num_examples`, in chunks of `num_rows`.

    Where the first row holds a list of completions, a chunk has about `num_rows` completions.

    Raises:
        DataError: its files are missing, cannot be fetched, or change while they are read.
    """
    pieces = _pieces(source)
    if source.kind == "rollouts" and (first := next(pieces, None)):
        num_rows = max(1, num_rows // mapped.completions_of(source, first))
        pieces = chain([first], pieces)
    return chunked(pieces, num_rows=num_rows, most=source.num_examples)


def rows_of(source: SourceConfig, chunk: RawChunk) -> Iterator[Raw]:
    """The rows of a chunk, with a `Damaged` in place of each that cannot be read.

    Where the config names the columns, a row for each completion, as `mapped.answers` gives it.

    Raises:
        DataError: something cannot be read and `damaged` is `refuse`; or a reward is not between
            0 and 1.
    """
    for raw in _completions(source, chunk) if source.columns.completion else chunk.rows():
        if isinstance(raw, Damaged) and source.damaged == "refuse":
            raise _refusal(raw.message)
        yield raw


def _completions(source: SourceConfig, chunk: RawChunk) -> Iterator[Raw]:
    for piece in chunk.pieces:
        for index, raw in enumerate(piece.rows()):
            if isinstance(raw, Damaged):
                yield raw
            else:
                yield from mapped.answers(source, raw, partial(piece.place, index))


def question_texts(source: SourceConfig, num_rows: int) -> Iterator[str]:
    """The questions of the first `num_rows` rows of a source with `columns.completion`.

    Rows that cannot be read are left out. Raises as `chunks`.
    """
    found = (raw for chunk in chunks(source, _ROWS_AT_ONCE) for raw in chunk.rows())
    for raw in islice(found, num_rows):
        if not isinstance(raw, Damaged):
            with suppress(mapped.Fault):
                yield mapped.question_of(source, raw)


def num_rows(source: SourceConfig) -> int:
    """The number of rows, for progress; 0 if only reading the whole source would show it."""
    files = files_of(source)
    if source.kind == "problems" or (not files and source.num_examples):
        return source.num_examples
    in_files = tables.num_rows(files)
    return min(in_files, source.num_examples) if source.num_examples else in_files


def files_of(source: SourceConfig) -> list[Path]:
    """The files that the source reads of this machine; none for the problems, the hub and URLs.

    Raises:
        DataError: its file or folder is missing, or one of a numbered set of files.
    """
    if source.kind == "problems" or remote.is_url(source.path):
        return []
    if hub.local_path(source.path, _SETTING) is None:
        return []
    return found_at(source).local_paths()


def found_at(source: SourceConfig, *, offline: bool = False) -> Files:
    """The files that a source reads, wherever they are.

    Args:
        source: A source of any kind but `problems`.
        offline: Of a hub id: ask the hub's cache alone.

    Raises:
        DataError: they are missing or cannot be listed.
    """
    if source.kind == "candidates":
        return _candidates(source)
    endings = _ENDINGS.get(source.kind, tables.PARQUET + tables.JSON)
    location = locations.located(
        source.path,
        setting=_SETTING,
        endings=endings,
        revision=source.revision,
        cache=FetchCache.from_settings(source.cache_folder, source.cache_gib),
        offline=offline,
    )
    folder = gsm8k.HUB_CONFIG if source.kind == "gsm8k" else ""
    return locations.chosen(
        location,
        what=f"{_SETTING} = {source.path!r}",
        split=source.split,
        endings=endings,
        folder=folder,
    )


def refuse_damaged(source: SourceConfig) -> None:
    """Read the footers of the Parquet files of this machine, if `damaged` is `refuse`.

    Raises:
        DataError: some are damaged, all of which it names; or one lacks a column.
    """
    if source.damaged == "skip":
        return
    paths = [path for path in files_of(source) if path.suffix == ".parquet"]
    damage = [tables.damage_of(path, _parquet_columns(source)) for path in paths]
    if messages := [damaged.message for damaged in damage if damaged]:
        raise _refusal("\n".join(messages))


def _refusal(message: str) -> DataError:
    return DataError(
        f"{message}. Repair it, or set damaged = 'skip' in the source to skip and "
        "count what cannot be read"
    )


def example_of(source: SourceConfig, raw: Raw) -> Labelled:
    """The example that one row gives.

    Raises:
        DroppedError: it gives none.
        DataError: the row does not have the columns of the source's kind.
    """
    if isinstance(raw, Damaged):
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
    if source.kind == "gsm8k":
        return _whole(Labelled(example=_of_gsm8k(source, raw)))
    if source.columns.completion:
        return _of_answer(source, raw)
    return _of_table(source, raw)


def complete(labelled: Labelled, parts: CutProgram) -> Labelled:
    """Give an example the question and the program that its function was cut into; returns it.

    Raises:
        DroppedError: it could not be cut.
    """
    if parts.fault:
        raise DroppedError(reasons.NOT_CUT)
    labelled.example = Example(question=parts.question, program=parts.program)
    labelled.raw, labelled.execution = None, parts.execution
    return _whole(labelled)


def _whole(labelled: Labelled) -> Labelled:
    if not _is_unicode(labelled.example.question + labelled.example.program):
        raise DroppedError(reasons.HALF_CHARACTER)
    return labelled


def _is_unicode(text: str) -> bool:
    """Whether the text has no lone surrogates, which JSON's escapes allow and tokenizers do not."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _pieces(source: SourceConfig) -> Iterator[Piece]:
    if source.kind == "problems":
        yield from _in_rows(iter(range(source.num_examples)))
        return
    for shown, path in found_at(source).each():
        if source.kind == "candidates":
            yield from _in_rows(candidates.read_or_damage(path))
        else:
            pieces = tables.pieces(path, _parquet_columns(source), shown=shown)
            first = next(pieces, None)
            if first is not None:
                yield first
            elif path.suffix == ".parquet" or source.columns.completion:
                yield Rows([tables.empty(shown)])
            yield from pieces


def _in_rows(found: Iterator[Any]) -> Iterator[Rows]:
    while entries := list(islice(found, _ROWS_AT_ONCE)):
        yield Rows(entries)


def _candidates(source: SourceConfig) -> Files:
    if remote.is_url(source.path):
        raise DataError(f"{_SETTING} = {source.path!r}: candidates are read from a local folder")
    path = hub.local_path(source.path, _SETTING)
    if path is None:
        raise DataError(f"{_SETTING} = {source.path!r}: there are no candidates")
    try:
        found = candidates.files_at(path)
    except FileNotFoundError as error:
        raise DataError(str(error)) from error
    return Files(locations.Folder(path), [each.name for each in found])


def _parquet_columns(source: SourceConfig) -> tuple[str, ...]:
    if source.columns.completion:
        return mapped.parquet_columns(source)
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


def _of_table(source: SourceConfig, row: tables.Row) -> Labelled:
    """A row with `code`, a whole function, or with `question` and `program`, its body."""
    question = _text(row, "question").strip()
    if row.get("program"):
        _require(source, row, "question")
        return _of_body(question, _text(row, "program"))
    _require(source, row, "code")
    return _of_function(question, _text(row, "code"))


def _of_body(question: str, text: str) -> Labelled:
    program = text.strip("\n").rstrip()
    return _whole(Labelled(example=Example(question=question, program=program)))


def _of_function(question: str, code: str) -> Labelled:
    return Labelled(
        example=Example(question=question, program=""),
        raw=RawProgram(code=code, question=question),
    )


def _of_answer(source: SourceConfig, row: tables.Row) -> Labelled:
    """A completion as `mapped.answers` gives it, with its label or its gold answer."""
    question, text = row["question"], row["completion"]
    if not question:
        raise DroppedError("empty question")
    if not text.strip():
        raise DroppedError(reasons.EMPTY_COMPLETION)
    gold = mapped.gold_of(row["gold"]) if source.columns.gold else None
    if source.columns.gold and gold is None:
        raise DroppedError(reasons.GOLD_NO_NUMBER)
    if source.form == "prose":
        labelled = _whole(Labelled(example=Example(question=question, program=text.strip())))
    else:
        labelled = (_of_body if mapped.is_body(text) else _of_function)(question, text)
    labelled.gold = gold
    if source.columns.reward:
        labelled.right = row["reward"] >= source.reward_threshold
    return labelled


def _of_candidate(candidate: Candidate) -> Labelled:
    # An unfinished program has no end token, at which the verifier's score is read, and no result
    # that could be selected: labelling it would teach the verifier nothing but lengths. A finished
    # one that fails is as wrong as one that gives another number.
    if not candidate.finished:
        raise DroppedError(reasons.NOT_FINISHED)
    return Labelled(
        example=Example(question=candidate.question, program=candidate.program),
        right=candidate.verdict == "right",
        order=order_of(candidate.program, failed=candidate.verdict == "failed"),
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
