"""Refuses configs that evaluate on questions which a model is trained on.

    refuse_shared(config)          # of train, sample, evaluate or a whole recipe

Every benchmark is compared with three things: the questions that candidates are sampled on, the
generator's sources without the rows that `decontaminate` drops, and the sources that the
`run.json` of a saved model lists. Texts are compared in the form of `question_texts.normalised`.

So that this takes seconds for data of any size, only the first 10,000 rows of a training source
and the first 10,000 sampled built-in problems are read. Of candidates all are read, but no column
except their questions. Sets of the hub are not downloaded for this, but compared by split and
position, and so are built-in problems of the same seed. Finding every overlap is the task of
`data.decontaminate`, which prepare applies to every row.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from training.checkpoint_paths import CHECKPOINTS
from training.config import (
    BenchmarkConfig,
    DataConfig,
    EvaluateConfig,
    EvaluationConfig,
    RecipeConfig,
    SampleConfig,
    SourceConfig,
    TrainConfig,
)
from training.data import benchmarks, candidates, sources, tables
from training.data.decontaminate import Overlap
from training.data.question_texts import normalised
from training.errors import DataError, UserError
from training.execution.executor import Cutter, RawProgram
from training.files import read_json
from training.lifecycle.run_folder import RUN
from training.manifest import MANIFEST

_MOST_ROWS = 10_000
_EXAMPLE_CHARACTERS = 100

Texts = Mapping[BenchmarkConfig, Sequence[str]]
"""Question texts of benchmarks that were read already."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Set:
    """Questions that are evaluated or trained on."""

    setting: str
    what: BenchmarkConfig | SourceConfig
    data: DataConfig | None = None
    """The section of a source, whose `decontaminate` drops some of its rows; None: a benchmark."""


def refuse_shared(
    config: TrainConfig | SampleConfig | EvaluateConfig | RecipeConfig,
    known: Texts | None = None,
) -> None:
    """Raise if a question is both evaluated and trained on.

    Args:
        config: The config of the stage that is about to start, or of a whole recipe.
        known: Texts that the caller has read already.

    Raises:
        DataError: two sets have questions in common (a line for each such pair, with the number
            of questions and an example), or a benchmark cannot be read.
    """
    if problems := [*shared(config, known)]:
        raise DataError("\n".join(problems))


def shared(
    config: TrainConfig | SampleConfig | EvaluateConfig | RecipeConfig,
    known: Texts | None = None,
) -> Iterator[str]:
    """The lines of the error that `refuse_shared` raises."""
    evaluated, learnt = _sides(config)
    yield from _compared(evaluated, learnt, known or {})


def _sides(
    config: TrainConfig | SampleConfig | EvaluateConfig | RecipeConfig,
) -> tuple[list[_Set], list[_Set]]:
    """The sets that are evaluated, and those that are trained on."""
    if isinstance(config, RecipeConfig):
        evaluated = _benchmarks(config.evaluation)
        learnt = [_Set(setting="sampling.questions", what=config.sampling.questions)]
        for name, trained in (("generator.", config.generator), ("verifier.", config.verifier)):
            evaluated += _in_training(trained, name)
        # A verifier's sources are the candidates, on the sampled questions.
        return evaluated, [*learnt, *_learnt(config.generator, "generator.")]
    if isinstance(config, SampleConfig):
        evaluated = []
        for source in config.sampling.checkpoints:
            if run := _run_of(source):
                evaluated += _in_training(run, f"{source}: ")
        return evaluated, [_Set(setting="sampling.questions", what=config.sampling.questions)]
    if isinstance(config, TrainConfig):
        models = [config.evaluation.generator]
        evaluated, learnt = _in_training(config, ""), _learnt(config, "")
    else:
        models = [config.evaluation.generator, config.evaluation.verifier]
        evaluated, learnt = _benchmarks(config.evaluation), []
    for source in models:
        if run := _run_of(source):
            learnt += _learnt(run, f"{source}: ")
    return evaluated, learnt


def _benchmarks(section: EvaluationConfig, prefix: str = "") -> list[_Set]:
    return [
        _Set(setting=f"{prefix}evaluation.benchmarks {entry.name!r}", what=entry)
        for entry in section.benchmarks
    ]


def _in_training(config: TrainConfig, prefix: str) -> list[_Set]:
    return _benchmarks(config.evaluation, prefix) if config.evaluation.every_steps else []


def _learnt(config: TrainConfig, prefix: str) -> list[_Set]:
    return [
        _Set(
            setting=f"{prefix}data.sources.{number}",
            what=source,
            data=config.data,
        )
        for number, source in enumerate(config.data.sources)
    ]


def _run_of(model: str) -> TrainConfig | None:
    """The config that a saved model was trained with; None if its run's folder is not here."""
    try:
        folder = Path(model).absolute()
        if (folder / MANIFEST).is_file():  # an exported model names its checkpoint
            exported = read_json(folder / MANIFEST).get("facts", {}).get("checkpoint")
            folder = Path(exported) if exported else folder
        # A checkpoint, or the folder of weights in it.
        checkpoints = next(above for above in [*folder.parents][:2] if above.name == CHECKPOINTS)
        return TrainConfig.model_validate(read_json(checkpoints.parent / RUN))
    except (OSError, StopIteration, AttributeError, TypeError, ValueError):
        return None


def _compared(evaluated: Sequence[_Set], learnt: Sequence[_Set], known: Texts) -> Iterator[str]:
    if not evaluated or not learnt:
        return
    texts_of = [
        {normalised(text) for text in _benchmark_texts(_benchmark(entry), known)}
        for entry in evaluated
    ]
    for source in learnt:
        learnt_texts = {normalised(text): text for text in _learnt_texts(source, texts_of, known)}
        for entry, texts in zip(evaluated, texts_of, strict=True):
            if _is_dropped(entry, source):
                continue
            if found := learnt_texts.keys() & texts:
                count = f"{len(found):,} of its {len(texts):,} questions"
                yield _message(entry, source, count, _cut(learnt_texts[min(found)]))
            elif positions := _shared_positions(entry, source, known):
                yield _message(entry, source, *positions)


def _benchmark(entry: _Set) -> BenchmarkConfig:
    assert isinstance(entry.what, BenchmarkConfig)
    return entry.what


def _message(entry: _Set, source: _Set, count: str, example: str) -> str:
    if isinstance(source.what, BenchmarkConfig):
        remedy = "sample or evaluate others (split, skip_questions, seed)"
    elif source.what.kind == "candidates":
        remedy = "evaluate others, or sample candidates of others"
    else:
        remedy = "evaluate others, or name the benchmark in data.decontaminate"
    return (
        f"{entry.setting} shares {count} with {source.setting} ({example}): evaluated "
        f"questions must not be trained on; {remedy}"
    )


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= _EXAMPLE_CHARACTERS else f"{text[:_EXAMPLE_CHARACTERS]}...")


def _is_at_hand(config: BenchmarkConfig | SourceConfig) -> bool:
    """Whether its texts can be read here: not those of the hub or of missing files."""
    if config.kind == "problems":
        return True
    find = benchmarks.files_of if isinstance(config, BenchmarkConfig) else sources.files_of
    try:
        return bool(find(config))  # pyright: ignore[reportArgumentType]
    except UserError:
        return False


def _benchmark_texts(config: BenchmarkConfig, known: Texts) -> Sequence[str]:
    if config in known:
        return known[config]
    if not _is_at_hand(config):
        return ()
    return [question.text for question in benchmarks.questions(config)]


def _learnt_texts(learnt: _Set, evaluated: Sequence[set[str]], known: Texts) -> Iterable[str]:
    """Texts of a set that is trained on; of a source only those which are also evaluated."""
    if isinstance(learnt.what, BenchmarkConfig):
        sampled = learnt.what
        if sampled.kind == "problems" and sampled not in known:
            first = min(sampled.num_questions, _MOST_ROWS)
            sampled = sampled.model_copy(update={"num_questions": first})
        return _benchmark_texts(sampled, known)
    all_evaluated = set[str]().union(*evaluated)
    if not all_evaluated or not _is_at_hand(learnt.what):
        return ()
    try:
        found = [text for text in _source_texts(learnt.what) if normalised(text) in all_evaluated]
    except (UserError, UnicodeDecodeError):
        return ()  # a damaged file, which prepare reports and does not use
    if not found or learnt.data is None:
        return found
    overlap = Overlap(
        (text for entry in learnt.data.decontaminate for text in _benchmark_texts(entry, known)),
        ngram=learnt.data.decontaminate_ngram,
        similarity=learnt.data.decontaminate_similarity,
    )
    return [text for text in found if not overlap.hits(text)]


def _source_texts(source: SourceConfig) -> Iterable[str]:
    if source.kind == "candidates":
        return candidates.question_texts(
            sources.files_of(source), skip_damaged=source.damaged == "skip"
        )
    if source.columns.completion:
        return sources.question_texts(source, _MOST_ROWS)
    rows = islice(sources.rows(source), _MOST_ROWS)
    if source.kind == "problems":
        return (sources.example_of(source, row).example.question for row in rows)
    return _questions_of(row for row in rows if not isinstance(row, tables.Damaged))


def _questions_of(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """Questions of rows; those that only state them in their code are cut in the sandbox."""
    found: list[str] = []
    codes: list[RawProgram] = []
    for row in rows:
        text = str(row.get("question") or "")
        if text or not row.get("code"):
            found.append(text)
        else:
            codes.append(RawProgram(code=str(row["code"])))
    with Cutter() as cutter:
        return found + [cut.question for cut in cutter.cut(codes)]


# --- Parts of the same set, compared without their texts.


def _shared_positions(entry: _Set, learnt: _Set, known: Texts) -> tuple[str, str] | None:
    """How many questions two parts of one set have in common, and which; None: none.

    Sets that can be read here are not compared by position, since their texts are compared.
    """
    first, second = _cut_of(entry.what), _cut_of(learnt.what)
    if not first or not second or first[0] != second[0]:
        return None
    if entry.what.kind != "problems" and all(
        each.what in known or _is_at_hand(each.what) for each in (entry, learnt)
    ):
        return None
    start, stop = max(first[1].start, second[1].start), min(first[1].stop, second[1].stop)
    if start >= stop:
        return None
    last = "its end" if stop == sys.maxsize else f"question {stop - 1:,}"
    count = "questions" if stop == sys.maxsize else f"{stop - start:,} questions"
    return count, f"question {start:,} to {last} of {first[0][0]}"


def _is_dropped(entry: _Set, learnt: _Set) -> bool:
    """Whether `decontaminate` names the whole benchmark, so that every common row is dropped."""
    cut = _cut_of(entry.what)
    for other in map(_cut_of, learnt.data.decontaminate if learnt.data else ()):
        if cut and other and cut[0] == other[0]:
            if other[1].start <= cut[1].start and cut[1].stop <= other[1].stop:
                return True
    return False


_Cut = tuple[tuple[str, str], range]
"""A set, identified by its name and further settings, and a range of positions in it."""


def _cut_of(config: BenchmarkConfig | SourceConfig) -> _Cut | None:
    """The set that a config takes questions from, and which; None for sets known only as files."""
    if isinstance(config, BenchmarkConfig):
        start, count = config.skip_questions, config.num_questions
    else:
        start, count = 0, config.num_examples
    if config.kind == "problems":
        name = f"the built-in problems of seed {config.seed}", config.difficulty.model_dump_json()
    elif isinstance(config, BenchmarkConfig):
        subset = f"/{config.folder}" if len(config.published.subsets) > 1 else ""
        name = f"{config.location}{subset} ({config.split})", ""
    elif config.kind == "gsm8k":
        name = f"{config.path} ({config.split})", ""
    else:
        return None
    return name, range(start, start + count if count else sys.maxsize)
