"""Reads questions with gold answers: GSM8K, SVAMP and the built-in problems.

    questions(BenchmarkConfig(name="gsm8k", kind="gsm8k", path="data/gsm8k"))

A question's id does not depend on which part of the set is read, so that the results of two runs
can be paired by question.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from training import hub, remote
from training.config import BenchmarkConfig, DifficultyConfig
from training.data import gsm8k, locations, tables
from training.data.locations import Files
from training.data.problems import STORY_KINDS, Difficulty, write_problem
from training.data.question_texts import normalised
from training.errors import ConfigError, DataError
from training.execution.numbers import read_gold
from training.records import Question

_SVAMP_SPLITS = ("train", "test")
_SVAMP_FILE = "SVAMP.json"


def questions(config: BenchmarkConfig) -> list[Question]:
    """The questions of a benchmark, without skipped ones and those beyond `num_questions`.

    Built-in problems may repeat by chance; a set read from files must not contain duplicates.

    Raises:
        DataError: its file or hub data set is missing, it holds too few questions, or one of
            them has no readable answer or occurs twice.
    """
    if config.kind == "problems":
        return _problems(config)
    origins: list[str] = []
    rows = _noted(_rows(config), origins)
    all_questions = _gsm8k(config, rows) if config.kind == "gsm8k" else _svamp(config, rows)
    end = config.skip_questions + config.num_questions if config.num_questions else None
    taken = list(islice(all_questions, config.skip_questions, end))
    if len(taken) < max(1, config.num_questions):
        raise DataError(
            f"benchmark {config.name}: skip_questions = {config.skip_questions} and "
            f"num_questions = {config.num_questions} need more questions than {config.path} "
            f"holds: it gave {len(taken)}"
        )
    _check_distinct(config, taken, origins[config.skip_questions :])
    return taken


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


def _noted(rows: Iterable[tuple[str, tables.Row]], origins: list[str]) -> Iterator[tables.Row]:
    """The rows; appends the file of each to `origins`."""
    for origin, row in rows:
        origins.append(origin)
        yield row


def _gsm8k(config: BenchmarkConfig, rows: Iterable[tables.Row]) -> Iterator[Question]:
    for index, row in enumerate(rows):
        answer = _text(row, "answer", config)
        num_marks = answer.count("<<")
        try:
            gold = gsm8k.gold_of(answer)
        except ValueError as error:
            raise DataError(f"{config.path}, {config.split} question {index}: {error}") from None
        yield Question(
            id=f"gsm8k-{config.split}-{index}",
            text=_text(row, "question", config).strip(),
            gold=gold,
            tags={"operations": num_marks} if num_marks else {},
        )


def _svamp(config: BenchmarkConfig, rows: Iterable[tables.Row]) -> Iterator[Question]:
    """All of SVAMP, which is one set of 1,000 questions: both splits of the hub together."""
    for index, row in enumerate(rows):
        body, question = _text(row, "Body", config), _text(row, "Question", config)
        try:
            gold = read_gold(_cell(row, "Answer", config))
        except ValueError as error:
            raise DataError(f"{config.path}, SVAMP question {index}: {error}") from None
        yield Question(
            id=f"svamp-{row.get('ID', index)}",
            text=f"{body.strip()} {question.strip()}",
            gold=gold,
            tags={"type": str(row["Type"])} if "Type" in row else {},
        )


def files_of(config: BenchmarkConfig) -> list[Path]:
    """The files that the benchmark reads of this machine; none for the problems, hub and URLs.

    Raises:
        DataError: its file or folder is missing.
    """
    if config.kind == "problems" or remote.is_url(config.path):
        return []
    if hub.local_path(config.path, _setting(config)) is None:
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
    location = locations.located(
        config.path,
        setting=_setting(config),
        endings=endings,
        revision=config.revision,
        offline=offline,
    )
    what = f"{_setting(config)} = {config.path!r}"
    if config.kind == "gsm8k":
        return [
            locations.chosen(
                location,
                what=what,
                split=config.split,
                endings=endings,
                folder=gsm8k.HUB_CONFIG,
            )
        ]
    if location.is_file or _SVAMP_FILE in location.names:
        return [Files(location, location.names if location.is_file else [_SVAMP_FILE])]
    return [
        locations.chosen(location, what=what, split=split, endings=endings)
        for split in _SVAMP_SPLITS
    ]


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
            f"benchmark {config.name}: {config.path} has a {column!r} that is not a text: "
            f"{text!r:.100}"
        )
    return text


def _cell(row: tables.Row, column: str, config: BenchmarkConfig) -> object:
    if column not in row:
        raise DataError(
            f"benchmark {config.name} is of kind {config.kind!r}, but {config.path} has no column "
            f"{column!r}: it has {', '.join(row)}"
        )
    return row[column]
