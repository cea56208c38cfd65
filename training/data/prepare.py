"""Runs the prepare stage: turns sources of examples into packed, tokenised sequences on disk.

    facts = prepare(config)        # launch/prepare.py

    sources -> filter -> decontaminate -> run -> tokenise -> deduplicate -> balance -> pack

Workers convert chunks of rows into parts, which are kept in `FOLDER.parts`. Once all are made,
duplicates are found by their keys (`select`) and the rest is packed in the order of the parts. So
the output is the same, to the byte, for any number of workers, and after an interruption (a
signal, a failed node) only the missing parts are made. The folder is replaced as a whole at the
end, and only if an earlier prepare wrote everything in it. Memory holds the chunks in progress,
then what `dedupe` states, then one packing window.
"""

import logging
import os
import secrets
import shutil
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

from parallel.workers.array import ONLY_TASK, ArrayTask
from parallel.workers.pool import WorkerPool
from training import files, hub, manifest, verification
from training.config import BenchmarkConfig, DataConfig, PrepareConfig
from training.data import benchmarks, filters_page, parts, prepared, sources
from training.data.chunks import RawChunk
from training.data.convert import Chunk, Converter
from training.data.counts import Counts, outdated, print_facts
from training.data.decontaminate import Overlap
from training.data.matching import refuse_other_generators, refuse_other_prompts
from training.data.pack import packed
from training.data.prompts import PromptTemplate
from training.data.select import remaining
from training.data.special_tokens import SpecialTokens
from training.data.tokenizer import FOLDER as TOKENIZER_FOLDER
from training.data.tokenizer import Tokenizer
from training.disk import reported
from training.errors import ConfigError, DataError, UserError
from training.lifecycle.attempts import parts_folder
from training.lifecycle.signals import StopSignal
from training.monitoring.progress import Progress

logger = logging.getLogger(__name__)

_CHUNK_ROWS = 1024
_TOKENIZER_EXAMPLES = 10_000
"""Examples that a tokenizer is trained on, spread evenly over the sources."""


def prepare(config: PrepareConfig, pool: WorkerPool | None = None) -> dict[str, Any]:
    """Write `data.folder` in a single job; returns its facts. See `prepare_array_task`."""
    facts = prepare_array_task(config, ONLY_TASK, pool)
    assert facts is not None  # no other array task makes any part
    return facts


def prepare_array_task(
    config: PrepareConfig,
    array_task: ArrayTask,
    pool: WorkerPool | None = None,
    *,
    stop: StopSignal | None = None,
) -> dict[str, Any] | None:
    """Write `data.folder` together with other array tasks, unless it is up to date.

    Args:
        config: The data to prepare.
        array_task: The parts that this job makes.
        pool: Worker processes that convert; None: `data.num_workers` processes of this machine.
        stop: Checked between two chunks.

    Returns:
        The folder's facts; None while parts of other array tasks are missing.

    Raises:
        ConfigError: the sources do not fit each other or the tokenizer.
        DataError: a source, benchmark or tokenizer is missing, or no example is left after
            filtering.
        FileExistsError: `data.folder`, or the folder of parts beside it, holds something that
            prepare did not write.
        IsolationError: programs are to be run and cannot be isolated here.
        NoSpace: the disk is full, or would be before the end, estimated from the first part.
        Stopped: a signal arrived; completed parts are kept.
    """
    data = config.data
    _check(data)
    made_of = _MadeOf(config=prepared.made_from(config), inputs=prepared.inputs(data))
    if facts := made_of.facts_of(data.folder, warns=True):
        logger.info(
            f"{data.folder} is up to date ({facts['sequences']:,} sequences, "
            f"{facts['tokens']:,} tokens): nothing to do"
        )
        return facts
    for source in data.sources:
        sources.refuse_damaged(source)  # rather than hours later
    parts.refuse_data(data.folder)
    work = _Work.from_config(config, files.sha256_json([made_of.config, made_of.inputs]))
    parts.claim(work.folder)
    try:
        facts = _made(work, made_of, pool or WorkerPool(data.num_workers), array_task, stop)
    except (OSError, UserError):
        # A faster job may have finished, and removed the parts and what this one was packing.
        if not (facts := made_of.facts_of(data.folder)):
            raise
    if facts:
        parts.remove(work.folder)
        print_facts(data.folder, facts)
    return facts


def _made(
    work: "_Work",
    made_of: "_MadeOf",
    pool: WorkerPool,
    array_task: ArrayTask,
    stop: StopSignal | None,
) -> dict[str, Any] | None:
    """Make the task's parts and, if no other part is missing, the folder; returns its facts."""
    target = work.config.data.folder
    converted = _converted(work, pool, array_task, stop)
    if not array_task.is_only:
        deque(converted, maxlen=0)  # other tasks may be at work: packing waits for all parts
        if missing := sum(not work.is_made(number) for number in range(work.num_parts)):
            # They are missing as well if another array task has packed and removed them.
            if not (facts := made_of.facts_of(target)):
                logger.info(
                    f"{array_task} is done; {missing} of {work.num_parts} parts are not yet"
                )
            return facts
        converted = map(work.path, range(work.num_parts))
    # A unique name, since two array tasks or two prepares of the same data may pack at once. The
    # folder of a killed attempt is removed at the end, with the parts.
    folder = work.folder / f"packed-{secrets.token_hex(4)}"
    try:
        with reported(folder):
            facts, outputs = _pack(work, converted, folder)
            manifest.commit(
                folder,
                stage=parts.STAGE,
                config=made_of.config,
                inputs=made_of.inputs,
                outputs=outputs,
                facts=facts,
            )
        if made := made_of.facts_of(target):
            return made  # another job was faster, and its folder may be in use
        _put_in_place(folder, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return facts


def status(config: PrepareConfig) -> manifest.Status:
    """What `prepare` would do now; downloads and writes nothing. Raises as `prepare`."""
    data = config.data
    _check(data)
    tokenizer, is_on_hub = data.tokenizer.source, False
    if tokenizer != "train":
        is_on_hub = hub.local_path(tokenizer, "data.tokenizer.source") is None
        if not is_on_hub:
            _tokenizer(data)
    comparison = prepared.compare(config)
    if comparison.is_current and not is_on_hub:
        facts = manifest.read(data.folder)["facts"]
        counts = f"{facts['sequences']:,} sequences, {facts['tokens']:,} tokens"
        return manifest.Status(f"has nothing to do: {data.folder} is up to date ({counts})", True)
    parts.refuse_data(data.folder)
    if not comparison.is_prepared:
        made = len(list(parts_folder(data.folder).glob("part-*")))
        known = f", with {made} existing parts if they are of the same data" if made else ""
        return manifest.Status(f"makes {data.folder}{known}")
    if is_on_hub:
        return manifest.Status(
            f"makes {data.folder} again, unless it is of the same data and the hub's {tokenizer}"
        )
    return manifest.Status(f"makes {data.folder} again: {'; '.join(comparison.differences)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class _MadeOf:
    """What determines the content of a data folder, in its manifest's form."""

    config: dict[str, Any]
    inputs: dict[str, str]

    def facts_of(self, folder: Path, *, warns: bool = False) -> dict[str, Any] | None:
        """The facts of a finished folder that was made from this; None if it was not.

        Contents are compared with the manifest, too: who asks replaces the folder if this is None.
        With `warns`, damage is logged.
        """
        if not manifest.is_current(folder, config=self.config, inputs=self.inputs):
            return None
        if problems := verification.problems_of(folder):
            if warns:
                logger.warning(f"{folder} is damaged ({problems[0]}): it is prepared again")
            return None
        facts = manifest.read(folder)["facts"]
        return None if outdated(facts) else facts


@dataclass(kw_only=True)
class _Work:
    """The parts of one data folder."""

    config: PrepareConfig
    folder: Path
    """The folder of the parts."""
    tokenizer: Tokenizer
    made_from: str
    """The label of the parts."""
    num_parts: int = 0
    """Parts counted so far; the total is known once the sources are read to their end."""

    @classmethod
    def from_config(cls, config: PrepareConfig, made_from: str) -> "_Work":
        tokenizer = _tokenizer(config.data)
        return cls(
            config=config,
            folder=parts_folder(config.data.folder),
            tokenizer=tokenizer,
            made_from=files.sha256_json([made_from, tokenizer.fingerprint]),
        )

    def path(self, number: int) -> Path:
        return parts.path_of(self.folder, number)

    def is_made(self, number: int) -> bool:
        return parts.is_current(self.path(number), made_from=self.made_from)


def _check(data: DataConfig) -> None:
    if data.remote:
        raise ConfigError(
            f"data.remote = {data.remote!r}: data.folder is a copy of data that is prepared there; "
            "leave data.remote out to prepare it here"
        )
    kinds = {source.kind for source in data.sources}
    if len({source.is_labelled for source in data.sources}) > 1:
        raise ConfigError(
            f"data.sources mixes kinds {', '.join(sorted(kinds))}: use 'candidates' and 'rollouts' "
            "alone for a verifier, and the other kinds for a generator"
        )
    if "candidates" in kinds and data.tokenizer.source == "train":
        raise ConfigError(
            "data.tokenizer.source = 'train' with candidates: a verifier uses its generator's "
            "tokenizer, so set it to the generator's data.folder"
        )
    for source in data.sources:
        if source.kind == "problems":
            benchmarks.difficulty_of(source.difficulty)


def _converted(
    work: _Work, pool: WorkerPool, array_task: ArrayTask, stop: StopSignal | None
) -> Iterator[Path]:
    """The parts in order, each once it is made; those of other array tasks without waiting."""
    data = work.config.data
    # Named by the parts' label, as workers of another config may run at the same time.
    tokenizer = work.folder / f"tokenizer-{work.made_from[:12]}"
    work.tokenizer.save(tokenizer)
    converter = Converter(
        data,
        work.config.execution,
        _overlap(data),
        tokenizer=tokenizer,
        made_from=work.made_from,
    )
    total = sum(sources.num_rows(source) for source in data.sources)
    with Progress("preparing", total=total, unit="rows") as progress:

        def todo() -> Iterator[Chunk]:
            for number, chunk in enumerate(_chunks(work)):
                if stop:
                    stop.check()
                work.num_parts = number + 1
                if not array_task.owns(number) or work.is_made(number):
                    progress.skip(len(chunk.rows))
                    chunk = replace(chunk, rows=RawChunk())
                sizes.append(len(chunk.rows))
                yield chunk

        sizes: deque[int] = deque()
        has_room = False
        for path in pool.imap(converter, todo()):
            progress.advance(num_rows := sizes.popleft())
            if not has_room and path.is_file():  # another task's part may not exist yet
                # A row of rollouts may hold many completions.
                per_row = parts.read_head(path).num_rows / num_rows if num_rows else 1.0
                _require_room(work, path, round(total * per_row))
                has_room = True
            yield path


def _require_room(work: _Work, part: Path, num_rows: int) -> None:
    num_parts = -(-num_rows // _CHUNK_ROWS)
    num_made = len(list(work.folder.glob("part-*")))
    parts.require_room(part, num_missing=max(num_parts - num_made, 0), num_parts=num_parts)


def _pack(
    work: _Work, converted: Iterator[Path], folder: Path
) -> tuple[dict[str, Any], list[Path]]:
    """Write shards and tokenizer; returns the facts and the files."""
    # Slow to import (megatron-core), and not needed where the folder is up to date.
    from training.data.shards import ShardWriter

    data = work.config.data
    outputs = work.tokenizer.save(folder / TOKENIZER_FOLDER)
    counts = Counts(data, work.tokenizer.decode)
    writer = ShardWriter(folder)
    with remaining(data, converted, counts, keys=folder / "keys") as streams:
        # Sources that are drawn by their weights share no sequence.
        for stream in streams if data.source_weights else [chain.from_iterable(streams)]:
            counts.sequences.append(0)
            for sequences in packed(stream, sequence_length=data.sequence_length):
                writer.add(sequences)
                counts.pack(sequences)
    if not sum(counts.sequences):
        parts.remove(work.folder)  # no example of any part can be used
        raise DataError(f"no example is left of data.sources:\n{counts.dropped_lines()}")
    facts = counts.facts()
    outputs.append(filters_page.write(folder, facts["sources"], counts.filters))
    facts["vocab_size"], facts["end_token"] = work.tokenizer.vocab_size, work.tokenizer.end_token
    return facts, [*outputs, *writer.close()]


def _tokenizer(data: DataConfig) -> Tokenizer:
    """The tokenizer of the data; `save` does not record the template, which the manifest has.

    Raises:
        ConfigError, DataError: it has no chat template and one is needed, it does not keep
            programs, or it is that of a model of other prompts.
    """
    if data.tokenizer.source == "train":
        return Tokenizer.train(_texts(data), vocab_size=data.tokenizer.vocab_size)
    found = Tokenizer.from_source(data.tokenizer.source)
    found.refuse_lossy()
    wanted = found.with_template(data.prompt_template)
    refuse_other_prompts(wanted, {f"data.tokenizer.source = {data.tokenizer.source}": found})
    refuse_other_generators(data, found)
    return wanted.without_template()


def _texts(data: DataConfig) -> Iterator[str]:
    template = PromptTemplate(data.prompt_template, SpecialTokens())
    per_source = -(-_TOKENIZER_EXAMPLES // len(data.sources))
    for source in data.sources:
        for example in islice(sources.examples(source), per_source):
            yield template.text(example.question)
            yield example.program


def _overlap(data: DataConfig) -> Overlap:
    def texts(benchmark: BenchmarkConfig) -> Iterator[str]:
        yield from (question.text for question in benchmarks.questions(benchmark))

    questions = (text for benchmark in data.decontaminate for text in texts(benchmark))
    return Overlap(
        questions, ngram=data.decontaminate_ngram, similarity=data.decontaminate_similarity
    )


def _chunks(work: _Work) -> Iterator[Chunk]:
    numbers = count()
    for source, settings in enumerate(work.config.data.sources):
        for rows in sources.chunks(settings, _CHUNK_ROWS):
            yield Chunk(source=source, rows=rows, part=work.path(next(numbers)))


def _put_in_place(made: Path, folder: Path) -> None:
    """Rename `made` to `folder`; an earlier folder is removed afterwards, not before."""
    parts.refuse_data(folder)  # checked at the start, hours ago
    old = made.with_name(f"old-{made.name}")
    replaces = folder.exists()
    if replaces:
        os.replace(folder, old)
    try:
        os.replace(made, folder)
    except OSError:
        if replaces and not folder.exists():
            os.replace(old, folder)
        raise
    files.sync(folder.parent)
    if replaces:
        manifest.remove(old, stage=parts.STAGE)
