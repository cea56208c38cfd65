"""Converts a chunk of source rows into a part on disk: the work of each worker of `prepare`.

A worker filters rows, compares their questions with the benchmarks, cuts and runs the programs in
the sandbox, and tokenises: what takes longest comes last, so that it is done for the fewest rows.
Each row is either kept or counted under the reason it was dropped for. Deduplication and packing
need all chunks and happen in `prepare`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.config import DataConfig, ExecutionConfig, Extractor, SourceConfig
from training.data import parts, reasons, sources
from training.data.balance import order_of
from training.data.chunks import RawChunk
from training.data.decontaminate import Overlap
from training.data.filter_counts import FilterCounts
from training.data.filters import execution_fault, question_fault, repaired_question
from training.data.pack import Examples, Mode, id_dtype
from training.data.signatures import Questions, program_keys, signatures
from training.data.sources import DroppedError, Labelled
from training.data.tokenizer import Tokenizer
from training.execution import programs
from training.execution.answers import extract
from training.execution.executor import Cutter, Executor, Limits, Program, same_number


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Some rows of one source."""

    source: int
    """Its index in `data.sources`."""
    rows: RawChunk
    """Empty where there is nothing to do: the part exists, or another array task makes it."""
    part: Path
    """The file to write."""


class Converter:
    """Converts chunks; opens tokenizer and sandbox in the process that uses them."""

    def __init__(
        self,
        data: DataConfig,
        execution: ExecutionConfig,
        overlap: Overlap,
        *,
        tokenizer: Path,
        made_from: str,
    ) -> None:
        """Take the settings.

        Args:
            data: Which examples to keep.
            execution: Limits of the programs.
            overlap: The benchmarks that questions must not overlap.
            tokenizer: The tokenizer's folder.
            made_from: The label of the parts.
        """
        self._data, self._overlap, self._tokenizer_folder = data, overlap, tokenizer
        self._made_from = made_from
        self._limits = Limits.from_config(execution)
        self._tokenizer: Tokenizer | None = None
        self._executor: Executor | None = None
        self._cutter = Cutter()

    def open(self) -> None:
        """Load the tokenizer and, where programs are to be run, start the sandbox."""
        loaded = Tokenizer.load(self._tokenizer_folder)
        self._tokenizer = loaded.with_template(self._data.prompt_template)
        if any(map(self._data.runs, self._data.sources)):
            self._executor = Executor(limits=self._limits).__enter__()

    def close(self) -> None:
        """Stop the sandbox."""
        if self._executor is not None:
            self._executor.__exit__(None, None, None)
            self._executor = None
        self._cutter.__exit__()

    def __call__(self, chunk: Chunk) -> Path:
        """Convert the rows of a chunk, in their order; returns the part's path."""
        if chunk.rows:
            parts.write(chunk.part, self._converted(chunk), made_from=self._made_from)
        return chunk.part

    def _converted(self, chunk: Chunk) -> parts.Converted:
        counts, source = FilterCounts(), self._data.sources[chunk.source]
        found, num_rows = self._read(source, chunk, counts)
        found = self._compared(found, counts)
        found = self._compared(self._cut(source, found, counts), counts)
        found = self._judged(source, found, counts)
        found, examples = self._tokenized(found, counts)
        return parts.Converted(
            head=parts.Head(
                source=chunk.source,
                num_rows=num_rows,
                keys=_stacked([labelled.keys for labelled in found]),
                filters=counts,
            ),
            examples=examples,
            order=np.array([labelled.order for labelled in found], np.uint64),
        )

    def _read(
        self, source: SourceConfig, chunk: Chunk, counts: FilterCounts
    ) -> tuple[list[Labelled], int]:
        """The examples of rows, without those that a filter of one row drops, and all rows."""
        found: list[Labelled] = []
        num_rows = 0
        for raw in sources.rows_of(source, chunk.rows):
            num_rows += 1
            try:
                labelled = sources.example_of(source, raw)
            except DroppedError as reason:
                counts.drop(str(reason), _shown(raw) if counts.wants_example(str(reason)) else "")
                continue
            # A question that only the docstring states is known once the code is cut.
            if labelled.example.question and not self._passes(labelled, counts):
                continue
            if labelled.raw or _has_program(labelled, counts):
                found.append(labelled)
        return found, num_rows

    def _passes(self, labelled: Labelled, counts: FilterCounts) -> bool:
        """Whether an example's question, which is repaired first, is kept; counts both."""
        if self._data.is_for_verifier:
            return True
        question, repaired = repaired_question(labelled.example.question)
        for name in repaired:
            counts.repair(name, labelled.example.question)
        if repaired:
            labelled.example = replace(labelled.example, question=question)
            labelled.raw = labelled.raw and replace(labelled.raw, question=question)
        fault = question_fault(question, min_characters=self._data.min_question_characters)
        if fault:
            counts.drop(fault, question)
        return not fault

    def _compared(self, found: Sequence[Labelled], counts: FilterCounts) -> list[Labelled]:
        """Those that overlap no benchmark, with the keys of their duplicates.

        Examples whose question is not known yet stay, and those that were compared already.
        """
        new = [each for each in found if each.example.question and each.keys is None]
        questions = Questions([labelled.example.question for labelled in new])
        overlaps = self._overlap.compare(questions)
        counts.overlaps.update(overlaps.counts)
        kept: list[Labelled] = []
        compared = zip(overlaps.faults, self._keys(new, questions), strict=True)
        for labelled in found:
            if not labelled.example.question or labelled.keys is not None:
                kept.append(labelled)
                continue
            fault, of_row = next(compared)
            if not fault:
                labelled.keys = of_row
                kept.append(labelled)
            elif counts.wants_example(fault):
                counts.drop(fault, self._overlap.explained(labelled.example.question))
            else:
                counts.drop(fault)
        return kept

    def _keys(self, found: Sequence[Labelled], questions: Questions) -> NDArray[np.uint64]:
        """[examples, columns] The keys of their duplicates."""
        if not self._data.is_for_verifier:
            return signatures(questions, similarity=self._data.near_duplicate_similarity)
        return program_keys([labelled.example for labelled in found])

    def _cut(
        self, source: SourceConfig, found: Sequence[Labelled], counts: FilterCounts
    ) -> list[Labelled]:
        """The examples with a program, those of whole functions as the sandbox cuts them."""
        raw = [labelled.raw for labelled in found if labelled.raw is not None]
        executor = self._executor if self._data.runs(source) else None
        cut = iter(executor.cut_and_run(raw) if executor else self._cutter.cut(raw))
        whole: list[Labelled] = []
        for labelled in found:
            if labelled.raw is None:
                whole.append(labelled)
                continue
            code, each = labelled.raw.code, next(cut)
            is_filtered = bool(labelled.raw.question)
            try:
                sources.complete(labelled, each)
            except DroppedError as reason:
                counts.drop(str(reason), code)
                continue
            for name in each.repairs:
                counts.repair(name, code)
            if not is_filtered and not self._passes(labelled, counts):
                continue
            if self._data.is_for_verifier:
                labelled.keys = program_keys([labelled.example])[0]  # known from now on
            if _has_program(labelled, counts):
                whole.append(labelled)
        return whole

    def _judged(
        self, source: SourceConfig, found: Sequence[Labelled], counts: FilterCounts
    ) -> list[Labelled]:
        """Those whose answer is a finite number, and gold's where there is one.

        All stay if no program is run and no text is compared. Rollouts stay with their label.
        """
        if self._data.runs(source):
            results = self._run(found)
        elif source.columns.gold:
            results = [_of_prose(labelled, source.extractor) for labelled in found]
        else:
            results = [_Result() for _ in found]
        kept: list[Labelled] = []
        for labelled, result in zip(found, results, strict=True):
            fault = result.fault or _gold_fault(labelled, result)
            if source.kind == "rollouts":
                program = labelled.example.program
                labelled.order = order_of(program, failed=bool(result.fault))
                if labelled.gold is not None:
                    labelled.right = not fault
                if fault:
                    counts.label_wrong(fault, result.text)
            elif fault:
                counts.drop(fault, result.text)
                continue
            kept.append(labelled)
        return kept

    def _run(self, found: Sequence[Labelled]) -> "list[_Result]":
        """The results of all programs; those that were run when they were cut are known."""
        assert self._executor is not None
        code = [
            programs.source(labelled.example.question, labelled.example.program)
            for labelled in found
        ]
        todo = [
            Program(code=text)
            for labelled, text in zip(found, code, strict=True)
            if labelled.execution is None
        ]
        executions = iter(self._executor.run(todo))
        results: list[_Result] = []
        for labelled, text in zip(found, code, strict=True):
            execution = labelled.execution or next(executions)
            fault = execution_fault(execution)
            results.append(_Result(value=execution.value, fault=fault, text=text))
        return results

    def _tokenized(
        self, found: Sequence[Labelled], counts: FilterCounts
    ) -> tuple[list[Labelled], Examples]:
        """Those that fit into a sequence, and the same as tokens."""
        assert self._tokenizer is not None
        prompts = self._tokenizer.prompts_ids([labelled.example.question for labelled in found])
        bodies = self._tokenizer.programs_ids([labelled.example.program for labelled in found])
        kept: list[Labelled] = []
        tokens: list[int] = []
        lengths: list[tuple[int, int]] = []
        for labelled, prompt, body in zip(found, prompts, bodies, strict=True):
            if len(prompt) + len(body) > self._data.sequence_length:
                counts.drop(reasons.TOO_LONG, labelled.example.question)
                continue
            kept.append(labelled)
            tokens += (*prompt, *body)
            lengths.append((len(prompt), len(body)))
        return kept, Examples(
            tokens=np.array(tokens, id_dtype(self._tokenizer.vocab_size)),
            lengths=np.array(lengths, np.int64).reshape(-1, 2),
            modes=np.array([self._modes(labelled.right) for labelled in kept], np.uint8).reshape(
                -1, 2
            ),
        )

    def _modes(self, right: bool | None) -> tuple[Mode, Mode]:
        """Those of the prompt and of the program."""
        if right is not None:
            return Mode.CONTEXT, Mode.RIGHT if right else Mode.WRONG
        return Mode.SUPERVISED if self._data.train_on_prompt else Mode.CONTEXT, Mode.SUPERVISED


@dataclass(frozen=True, kw_only=True, slots=True)
class _Result:
    """The answer of a program or of a text, if it was looked for."""

    value: float | None = None
    fault: str | None = None
    """Why there is none."""
    text: str = ""
    """The program or the text, as the page of counts shows it."""


def _of_prose(labelled: Labelled, extractor: Extractor) -> _Result:
    text = labelled.example.program
    value = extract(text, extractor)
    return _Result(value=value, fault=reasons.NO_ANSWER if value is None else None, text=text)


def _gold_fault(labelled: Labelled, result: _Result) -> str | None:
    if labelled.gold is None or result.value is None:
        return None
    return None if same_number(result.value, labelled.gold) else reasons.NOT_GOLD


def _stacked(keys: Sequence[NDArray[np.uint64] | None]) -> NDArray[np.uint64]:
    """[examples, columns] Of one row each; `np.stack` takes ten times as long."""
    if not keys:
        return np.empty((0, 1), np.uint64)
    return np.concatenate([row for row in keys if row is not None]).reshape(len(keys), -1)


def _has_program(labelled: Labelled, counts: FilterCounts) -> bool:
    """Whether there is a program; if not, that is counted."""
    if labelled.example.program.strip():
        return True
    counts.drop(reasons.EMPTY_PROGRAM, labelled.example.question)
    return False


def _shown(raw: object) -> str:
    """A row that gives no example, as the page of counts shows it."""
    return json.dumps(raw, ensure_ascii=False, default=str) if isinstance(raw, dict) else ""
