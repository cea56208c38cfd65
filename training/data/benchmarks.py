"""Reads questions with gold answers: the published benchmarks, your own, and built-in problems.

    questions(BenchmarkConfig(name="gsm8k", kind="gsm8k", path="data/gsm8k"))

What the columns of each kind mean is in training/config/benchmark_sets.py. A question's id does not
depend on which part of the set is read, so that the results of two runs can be paired by question.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from training import hub, remote
from training.config import BenchmarkConfig, DifficultyConfig
from training.data import golds, locations, tables
from training.data.locations import Files, Location
from training.data.problems import STORY_KINDS, Difficulty, write_problem
from training.data.question_texts import normalised
from training.errors import ConfigError, DataError
from training.records import Question

logger = logging.getLogger(__name__)

ORIGINAL = "original"
"""Tag of a variant of a GSM8K question: the `text_key` of that question."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuestionSet:
    """The questions of a benchmark, and those that cannot be scored."""

    questions: list[Question]
    left_out: list[str] = field(default_factory=list[str])
    """Rows whose gold is no number, each with the reason."""


def questions(config: BenchmarkConfig) -> list[Question]:
    """The questions of a benchmark that can be scored. Raises as `question_set`."""
    return question_set(config).questions


def question_set(config: BenchmarkConfig) -> QuestionSet:
    """The questions of a benchmark, without skipped ones and those beyond `num_questions`.

    Built-in problems may repeat by chance, and some published sets repeat questions; GSM8K, SVAMP
    and a `table` must not. In a published set whose answers are not all numbers, the questions
    without a number are left out, with a warning.

    Raises:
        DataError: its file or hub data set is missing, it holds too few questions, or one of
            them has no readable answer or occurs twice.
    """
    if config.kind == "problems":
        return QuestionSet(questions=_problems(config))
    left_out: list[str] = []
    end = config.skip_questions + config.num_questions if config.num_questions else None
    found = list(islice(_read(config, left_out), config.skip_questions, end))
    if not found and left_out:
        raise DataError(
            f"benchmark {config.name}: {config.location} has no question whose gold answer is a "
            f"number: {left_out[0]}"
        )
    if len(found) < max(1, config.num_questions):
        raise DataError(
            f"benchmark {config.name}: skip_questions = {config.skip_questions} and "
            f"num_questions = {config.num_questions} need more questions than {config.location} "
            f"holds: it gave {len(found)}"
        )
    taken = [question for _, question in found]
    if config.published.is_strict:
        _check_distinct(config, taken, [origin for origin, _ in found])
    if left_out:
        logger.warning(
            "benchmark %s: %d of %d questions have no number as gold answer and are left out (%s)",
            config.name,
            len(left_out),
            len(left_out) + len(taken),
            left_out[0],
        )
    return QuestionSet(questions=taken, left_out=left_out)


def text_key(text: str) -> str:
    """A short digest of a question's text, equal where only case, space or punctuation differ."""
    return hashlib.sha256(normalised(text).encode()).hexdigest()[:16]


def difficulty_of(config: DifficultyConfig) -> Difficulty:
    """The problem writer's difficulty, from the settings of the same names.

    Raises:
        ConfigError: the writer knows no such kind of story.
    """
    settings = config.model_dump()
    settings["story_kinds"] = config.story_kinds or STORY_KINDS
    try:
        return Difficulty(**settings)
    except ValueError as error:
        raise ConfigError(f"difficulty: {error}") from None


def _problems(config: BenchmarkConfig) -> list[Question]:
    difficulty = difficulty_of(config.difficulty)
    first = config.skip_questions
    made = (
        write_problem(config.seed, index, difficulty)
        for index in range(first, first + config.num_questions)
    )
    return [
        Question(
            id=f"problems-{problem.id}",
            text=problem.question,
            gold=float(problem.answer),
            tags={"operations": problem.num_operations, "story": problem.story_kind},
        )
        for problem in made
    ]


def _check_distinct(
    config: BenchmarkConfig, found: Sequence[Question], origins: Sequence[str]
) -> None:
    """Raise where a question occurs twice: it would count twice in every metric.

    Args:
        config: The benchmark.
        found: Its questions.
        origins: The file that each was read from.
    """
    first: dict[str, int] = {}
    repeated = [
        (first[text], at)
        for at, question in enumerate(found)
        if first.setdefault(text := normalised(question.text), at) != at
    ]
    if repeated:
        example = " and ".join(
            f"question {config.skip_questions + at} ({origins[at]})" for at in repeated[0]
        )
        raise DataError(
            f"benchmark {config.name} holds {len(repeated):,} questions more than once: "
            f"{found[repeated[0][0]].text!r} is {example}. Name one file in its path"
        )


def _read(config: BenchmarkConfig, left_out: list[str]) -> Iterator[tuple[str, Question]]:
    """Each question with the file that it was read from; `left_out` gets those without a number."""
    published = config.published
    part = published.title if published.splits else config.split
    is_table = config.kind == "table"
    columns = (config.question_column,) if is_table else published.question
    answer_column = config.answer_column if is_table else published.answer
    for index, (origin, row) in enumerate(_rows(config)):
        answer = _cell(row, answer_column, config)
        text = " ".join(_text(row, column, config).strip() for column in columns)
        try:
            gold = golds.read(answer, published.gold)
        except ValueError as error:
            if published.is_strict:
                place = f"{config.location}, {part} question {index}"
                raise DataError(f"{place}: {error}") from None
            left_out.append(f"question {index}: {error}")
            continue
        tags = _tags(row, answer, config)
        yield origin, Question(id=_id(row, index, config), text=text, gold=gold, tags=tags)


def _id(row: tables.Row, index: int, config: BenchmarkConfig) -> str:
    published = config.published
    parts = [config.kind]
    if config.subset or len(published.subsets) > 1:
        parts.append(config.folder)
    if not published.splits:
        parts.append(config.split)
    return "-".join([*parts, str(row.get(published.id, index))])


def _tags(row: tables.Row, answer: object, config: BenchmarkConfig) -> dict[str, str | int]:
    published = config.published
    tags: dict[str, str | int] = {}
    if isinstance(answer, str) and (num_marks := answer.count("<<")):
        tags["operations"] = num_marks
    if published.group and published.group in row:
        tags["type"] = str(row[published.group])
    if published.original:
        tags[ORIGINAL] = text_key(_text(row, published.original, config))
    return tags


def files_of(config: BenchmarkConfig) -> list[Path]:
    """The files that the benchmark reads of this machine; none for the problems, hub and URLs.

    Raises:
        DataError: its file or folder is missing.
    """
    if config.kind == "problems" or remote.is_url(config.location):
        return []
    if hub.local_path(config.location, _setting(config)) is None:
        return []
    return [path for files in found_at(config) for path in files.local_paths()]


def found_at(config: BenchmarkConfig, *, offline: bool = False) -> list[Files]:
    """The files of each split that a benchmark reads, wherever they are.

    Args:
        config: A benchmark of any kind but `problems`.
        offline: Of a hub id: ask the hub's cache alone.

    Raises:
        DataError: they are missing or cannot be listed.
    """
    endings = tables.PARQUET + tables.JSON
    published = config.published
    is_published = config.location == published.hub
    location = locations.located(
        config.location,
        setting=_setting(config),
        endings=endings,
        revision=config.revision or (published.revision if is_published else ""),
        offline=offline,
    )
    what = f"{_setting(config)} = {config.location!r}"
    if location.is_file and published.splits:
        return [Files(location, location.names)]
    if published.file and published.file in location.names:
        return [Files(location, [published.file])]
    _refuse_other_subsets(location, config, what)
    return [
        locations.chosen(location, what=what, split=split, endings=endings, folder=config.folder)
        for split in published.splits or (config.split,)
    ]


def _refuse_other_subsets(location: Location, config: BenchmarkConfig, what: str) -> None:
    """Raise where the location has folders for subsets, but not for the one that is asked for."""
    if location.is_file or not config.folder:
        return
    folders = {name.partition("/")[0] for name in location.names if "/" in name}
    others = folders.intersection(config.published.subsets or folders)
    if config.folder not in folders and others:
        raise DataError(
            f"{what} has no folder {config.folder!r} for this subset: it has "
            f"{', '.join(sorted(others))}; set subset to one of them"
        )


def _rows(config: BenchmarkConfig) -> Iterator[tuple[str, tables.Row]]:
    """Each row, with the file that it was read from."""
    for files in found_at(config):
        for shown, path in files.each():
            yield from ((shown, row) for row in tables.rows_of([path], shown=shown))


def _setting(config: BenchmarkConfig) -> str:
    return f"path of benchmark {config.name}"


def _text(row: tables.Row, column: str, config: BenchmarkConfig) -> str:
    text = _cell(row, column, config)
    if not isinstance(text, str):
        raise DataError(
            f"benchmark {config.name}: {config.location} has a {column!r} that is not a text: "
            f"{text!r:.100}"
        )
    return text


def _cell(row: tables.Row, column: str, config: BenchmarkConfig) -> object:
    if column not in row:
        remedy = "; set question_column and answer_column" if config.kind == "table" else ""
        raise DataError(
            f"benchmark {config.name} is of kind {config.kind!r}, but {config.location} has no "
            f"column {column!r}: it has {', '.join(row)}{remedy}"
        )
    return row[column]
