"""The prepare stage: sources become packed, tokenised rows on disk.

    facts = prepare(config)        # launch/prepare.py

    sources -> filter, run -> decontaminate -> tokenise -> drop duplicates -> pack -> shards

Everything streams: memory holds one packing window, the chunks under way and one short
key per distinct question (about 90 bytes: 1 GB for TinyGSM's 11 million). The output is
the same, to the byte, for any number of workers. All of it is made in `FOLDER.tmp` and
renamed at the end, so a killed prepare leaves the folder as it was.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from training import files, manifest
from training.config import BenchmarkConfig, ConfigError, DataConfig, PrepareConfig, resolved
from training.data import benchmarks, programs, sources, workers
from training.data.convert import Chunk, Converted, Converter, is_for_verifier
from training.data.decontaminate import Overlap
from training.data.pack import Mode, TokenizedExample, packed
from training.data.tokenizer import FOLDER as TOKENIZER_FOLDER
from training.data.tokenizer import Tokenizer
from training.progress import Progress

_CHUNK_ROWS = 512
_TOKENIZER_EXAMPLES = 10_000
"""Examples that a tokenizer is trained on, spread evenly over the sources."""
_DUPLICATE = "duplicate question"
_DUPLICATE_PROGRAM = "duplicate program of a question"


@dataclass(kw_only=True)
class _Counts:
    """What is told at the end and kept in the manifest."""

    num_sources: int
    rows_read: list[int] = field(init=False)
    examples_kept: list[int] = field(init=False)
    dropped: list[Counter[str]] = field(init=False)
    tokens: int = 0
    supervised_tokens: int = 0
    rows: int = 0
    modes: Counter[Mode] = field(default_factory=Counter[Mode])

    def __post_init__(self) -> None:
        self.rows_read = [0] * self.num_sources
        self.examples_kept = [0] * self.num_sources
        self.dropped = [Counter[str]() for _ in range(self.num_sources)]


def prepare(config: PrepareConfig) -> dict[str, Any]:
    """Write `data.folder` unless it is there and made from the same; returns its facts.

    Raises:
        ConfigError: a source, benchmark or tokenizer is not there, does not fit the others,
            or nothing is left after filtering.
        IsolationError: programs are to be run and nothing here can isolate them.
    """
    data = config.data
    _check(data)
    inputs, made_from = _inputs(data), _made_from(config)
    if manifest.is_current(data.folder, config=made_from, inputs=inputs):
        facts = manifest.read(data.folder)["facts"]
        print(
            f"{data.folder} is up to date ({facts['rows']:,} rows, {facts['tokens']:,} tokens): "
            "nothing to do",
            flush=True,
        )
        return facts
    folder = data.folder.with_name(data.folder.name + ".tmp")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        facts, outputs = _write(config, folder)
        manifest.commit(
            folder, stage="prepare", config=made_from, inputs=inputs, outputs=outputs, facts=facts
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    _put_in_place(folder, data.folder)
    _print_facts(data.folder, facts, Console())
    return facts


def _check(data: DataConfig) -> None:
    kinds = {source.kind for source in data.sources}
    if "candidates" in kinds and len(kinds) > 1:
        raise ConfigError(
            f"data.sources mixes kinds {', '.join(sorted(kinds))}: labelled candidates are a "
            "verifier's, all others a generator's"
        )
    if is_for_verifier(data) and data.tokenizer.source == "train":
        raise ConfigError(
            "data.tokenizer.source = 'train' with candidates: a verifier reads with its "
            "generator's tokenizer, set it to the generator's data.folder"
        )
    for source in data.sources:
        if source.kind == "problems":
            benchmarks.difficulty_of(source.difficulty)


def _made_from(config: PrepareConfig) -> dict[str, Any]:
    """What decides the content: neither where it lies nor how many workers make it."""
    data = resolved(config.data)
    for key in ("folder", "num_workers", "prepare_if_missing"):
        del data[key]
    execution = resolved(config.execution)
    del execution["num_workers"]
    return {"data": data, "execution": execution if config.data.run_programs else None}


def _inputs(data: DataConfig) -> dict[str, str]:
    """Fingerprints of all local files that are read, by the setting that names them."""
    inputs: dict[str, str] = {}
    for number, source in enumerate(data.sources):
        found = {path.name: manifest.fingerprint(path) for path in sources.files_of(source)}
        if found:
            inputs[f"data.sources.{number}"] = files.sha256_json(found)
    for number, benchmark in enumerate(data.decontaminate):
        found = {path.name: manifest.fingerprint(path) for path in benchmarks.files_of(benchmark)}
        if found:
            inputs[f"data.decontaminate.{number}"] = files.sha256_json(found)
    if data.tokenizer.source != "train":
        inputs["data.tokenizer"] = Tokenizer.of(data.tokenizer.source).fingerprint
    return inputs


def _write(config: PrepareConfig, folder: Path) -> tuple[dict[str, Any], list[Path]]:
    """Write shards and tokenizer; returns facts and files."""
    # Slow to import (megatron-core), and a folder that is up to date needs none of it.
    from training.data.shards import ShardWriter

    data = config.data
    tokenizer = _tokenizer(data)
    outputs = tokenizer.save(folder / TOKENIZER_FOLDER)
    converter = Converter(
        data, config.execution, _overlap(data), tokenizer=folder / TOKENIZER_FOLDER
    )
    counts = _Counts(num_sources=len(data.sources))
    writer = ShardWriter(folder)
    total = sum(sources.num_rows(source) for source in data.sources)
    with Progress("preparing", total=total, unit="rows") as progress:
        converted = workers.in_order(
            converter, _chunks(data), num_workers=workers.num_workers(data.num_workers)
        )
        examples = _distinct(converted, data, counts, progress)
        for row in packed(examples, row_tokens=data.row_tokens):
            writer.add(row)
            counts.rows += 1
    if not counts.rows:
        raise ConfigError(f"no example is left of data.sources:\n{_dropped_lines(counts)}")
    facts = _facts(data, counts)
    facts["vocab_size"], facts["end_token"] = tokenizer.vocab_size, tokenizer.end_token
    return facts, [*outputs, *writer.close()]


def _tokenizer(data: DataConfig) -> Tokenizer:
    if data.tokenizer.source != "train":
        return Tokenizer.of(data.tokenizer.source)
    return Tokenizer.train(_texts(data), vocab_size=data.tokenizer.vocab_size)


def _texts(data: DataConfig) -> Iterator[str]:
    share = -(-_TOKENIZER_EXAMPLES // len(data.sources))
    for source in data.sources:
        for example in islice(sources.examples(source), share):
            yield programs.prompt(example.question)
            yield example.program


def _overlap(data: DataConfig) -> Overlap:
    def texts(benchmark: BenchmarkConfig) -> Iterator[str]:
        yield from (question.text for question in benchmarks.questions(benchmark))

    questions = (text for benchmark in data.decontaminate for text in texts(benchmark))
    return Overlap(questions, ngram=data.decontaminate_ngram)


def _chunks(data: DataConfig) -> Iterator[Chunk]:
    for number, source in enumerate(data.sources):
        for rows in workers.in_chunks(sources.rows(source), _CHUNK_ROWS):
            yield Chunk(source=number, rows=rows)


def _distinct(
    converted: Iterator[Converted], data: DataConfig, counts: _Counts, progress: Progress
) -> Iterator[TokenizedExample]:
    """The kept examples without duplicates; counts everything on the way."""
    duplicate = _DUPLICATE_PROGRAM if is_for_verifier(data) else _DUPLICATE
    seen: set[bytes] = set()
    for part in converted:
        counts.rows_read[part.source] += part.num_rows
        counts.dropped[part.source] += part.dropped
        for key, example in part.kept:
            if key in seen:
                counts.dropped[part.source][duplicate] += 1
                continue
            seen.add(key)
            counts.examples_kept[part.source] += 1
            counts.modes[example.program_mode] += 1
            counts.tokens += len(example)
            in_prompt = example.num_prompt_tokens
            counts.supervised_tokens += (
                len(example) - 1 if example.prompt_mode else len(example) - in_prompt
            )
            yield example
        progress.advance(part.num_rows)


def _facts(data: DataConfig, counts: _Counts) -> dict[str, Any]:
    examples = sum(counts.examples_kept)
    verifier = is_for_verifier(data)
    return {
        "head": "verifier" if verifier else "language_model",
        "row_tokens": data.row_tokens,
        "rows": counts.rows,
        "examples": examples,
        **({"right_examples": counts.modes[Mode.RIGHT]} if verifier else {}),
        "tokens": counts.tokens,
        "supervised_tokens": counts.supervised_tokens,
        "tokens_per_example": counts.tokens / max(examples, 1),
        "padding_fraction": 1 - counts.tokens / max(counts.rows * data.row_tokens, 1),
        "sources": [
            {
                "kind": source.kind,
                "rows_read": counts.rows_read[number],
                "examples_kept": counts.examples_kept[number],
                "dropped": dict(counts.dropped[number].most_common()),
            }
            for number, source in enumerate(data.sources)
        ],
    }


def _put_in_place(made: Path, folder: Path) -> None:
    """Rename `made` to `folder`; what stood there goes away after that, not before."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(made, folder)
    files.sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _dropped_lines(counts: _Counts) -> str:
    lines = [f"  {sum(counts.rows_read):,} rows were read"]
    for dropped in counts.dropped:
        lines += [f"  {number:,} dropped: {reason}" for reason, number in dropped.most_common()]
    return "\n".join(lines)


def _print_facts(folder: Path, facts: dict[str, Any], console: Console) -> None:
    console.print(f"prepared {folder}", soft_wrap=True)
    table = Table()
    table.add_column("what")
    table.add_column("number", justify="right")
    for source in facts["sources"]:
        table.add_row(f"{source['kind']}: rows read", f"{source['rows_read']:,}")
        for reason, number in source["dropped"].items():
            table.add_row(f"  dropped: {reason}", f"{number:,}")
        table.add_row("  kept", f"{source['examples_kept']:,}")
    table.add_section()
    if "right_examples" in facts:
        table.add_row("right programs", f"{facts['right_examples']:,} of {facts['examples']:,}")
    table.add_row("tokens", f"{facts['tokens']:,}")
    table.add_row("supervised tokens", f"{facts['supervised_tokens']:,}")
    table.add_row("tokens an example", f"{facts['tokens_per_example']:.1f}")
    table.add_row(f"rows of {facts['row_tokens']:,} tokens", f"{facts['rows']:,}")
    table.add_row("padding", f"{facts['padding_fraction']:.2%}")
    console.print(table)
