"""Converts a chunk of source rows into a part on disk: the work of each worker of `prepare`.

A worker filters rows, compares their questions with the benchmarks, cuts and runs the programs in
the sandbox, and tokenises. Each row is either kept or counted under the reason it was dropped for.
Deduplication and packing need all chunks and happen in `prepare`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.config import DataConfig, ExecutionConfig
from training.data import parts, sources
from training.data.decontaminate import Overlap
from training.data.dedupe import program_key, question_key
from training.data.filters import execution_fault, question_fault
from training.data.pack import Mode, TokenizedExample
from training.data.sources import DroppedError, Labelled, Raw
from training.data.tokenizer import Tokenizer
from training.execution import programs
from training.execution.executor import CutProgram, Cutter, Executor, Limits, Program, RawProgram
from training.records import Execution


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Some rows of one source."""

    source: int
    """Its index in `data.sources`."""
    rows: list[Raw]
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
        self._tokenizer = Tokenizer.load(self._tokenizer_folder)
        # The programs of candidates were run when they were sampled.
        if self._data.run_programs and not self._data.is_for_verifier:
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
        dropped: Counter[str] = Counter()
        repaired: Counter[str] = Counter()
        found: list[Labelled] = []
        for raw in chunk.rows:
            try:
                labelled = sources.example_of(self._data.sources[chunk.source], raw)
            except DroppedError as reason:
                dropped[str(reason)] += 1
                continue
            # A question that only the docstring states is looked at once the code is cut.
            fault = self._fault(labelled) if labelled.example.question else None
            if fault:
                dropped[fault] += 1
            else:
                found.append(labelled)
        found = self._running(found, dropped, repaired)
        kept = self._tokenized(found, dropped)
        return parts.Converted(
            source=chunk.source,
            num_rows=len(chunk.rows),
            kept=kept,
            dropped=dropped,
            repaired=repaired,
        )

    def _fault(self, labelled: Labelled) -> str | None:
        example = labelled.example
        if labelled.raw is None and not example.program.strip():
            return "program is empty"
        if labelled.right is None:
            fault = question_fault(
                example.question, min_characters=self._data.min_question_characters
            )
            if fault:
                return fault
        return "overlaps a benchmark" if self._overlap.hits(example.question) else None

    def _running(
        self, found: list[Labelled], dropped: Counter[str], repaired: Counter[str]
    ) -> list[Labelled]:
        """Those with a program that gives a finite number; or any, if it is not to be run."""
        parts = iter(self._cut([each.raw for each in found if each.raw is not None]))
        whole: list[tuple[Labelled, Execution | None]] = []
        for labelled in found:
            if labelled.raw is None:
                whole.append((labelled, None))
                continue
            cut = next(parts)
            try:
                labelled = sources.with_parts(labelled, cut)
            except DroppedError as reason:
                dropped[str(reason)] += 1
                continue
            repaired.update(cut.repairs)
            fault = self._fault(labelled)
            if fault:
                dropped[fault] += 1
            else:
                whole.append((labelled, cut.execution))
        return self._that_run(whole, dropped)

    def _cut(self, raw: list[RawProgram]) -> list[CutProgram]:
        if self._executor is None:
            return self._cutter.cut(raw)
        return self._executor.cut_and_run(raw)

    def _that_run(
        self, whole: list[tuple[Labelled, Execution | None]], dropped: Counter[str]
    ) -> list[Labelled]:
        """Those whose execution, which may have been done with the cutting, gives a number."""
        if self._executor is None:
            return [labelled for labelled, _ in whole]
        code = [
            programs.source(labelled.example.question, labelled.example.program)
            for labelled, execution in whole
            if execution is None
        ]
        executions = iter(self._executor.run([Program(code=text) for text in code]))
        kept: list[Labelled] = []
        for labelled, execution in whole:
            fault = execution_fault(execution or next(executions))
            if fault:
                dropped[fault] += 1
            else:
                kept.append(labelled)
        return kept

    def _tokenized(self, found: Sequence[Labelled], dropped: Counter[str]) -> list[parts.Kept]:
        assert self._tokenizer is not None
        prompts = self._tokenizer.encode_all(
            [programs.prompt(labelled.example.question) for labelled in found]
        )
        bodies = self._tokenizer.encode_all([labelled.example.program for labelled in found])
        prompt_mode = Mode.SUPERVISED if self._data.train_on_prompt else Mode.CONTEXT
        kept: list[parts.Kept] = []
        for labelled, prompt, body in zip(found, prompts, bodies, strict=True):
            tokens = np.array([*prompt, *body, self._tokenizer.end_token], np.uint16)
            if len(tokens) > self._data.sequence_length:
                dropped["longer than a sequence"] += 1
                continue
            example = TokenizedExample(
                tokens=tokens,
                num_prompt_tokens=len(prompt),
                prompt_mode=Mode.CONTEXT if labelled.right is not None else prompt_mode,
                program_mode=_program_mode(labelled.right),
            )
            kept.append(parts.Kept(key=_key(labelled), example=example, order=labelled.order))
        return kept


def _program_mode(right: bool | None) -> Mode:
    if right is None:
        return Mode.SUPERVISED
    return Mode.RIGHT if right else Mode.WRONG


def _key(labelled: Labelled) -> bytes:
    example = labelled.example
    if labelled.right is None:
        return question_key(example.question)
    return program_key(example.question, example.program)
