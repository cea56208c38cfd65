"""Converts a chunk of source rows into a part on disk: the work of each worker of `prepare`.

A worker filters rows, compares their questions with the benchmarks, runs the programs in the
sandbox, and tokenises. Each row is either kept or counted under the reason it was dropped for.
Deduplication and packing need all chunks and happen in `prepare`.
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.config import DataConfig, ExecutionConfig
from training.data import parts, programs, sources
from training.data.chunks import RawChunk
from training.data.decontaminate import Overlap
from training.data.dedupe import program_key, question_key
from training.data.filters import execution_fault, question_fault
from training.data.pack import Mode, TokenizedExample
from training.data.sources import DroppedError, Labelled
from training.data.tokenizer import Tokenizer
from training.execution.executor import Executor, Limits, Program


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

    def open(self) -> None:
        """Load the tokenizer and, where programs are to be run, start the sandbox."""
        # Many docstrings hold `\\$`; a warning for each is of no use.
        warnings.simplefilter("ignore", SyntaxWarning)
        self._tokenizer = Tokenizer.load(self._tokenizer_folder)
        # The programs of candidates were run when they were sampled.
        if self._data.run_programs and not self._data.is_for_verifier:
            self._executor = Executor(limits=self._limits).__enter__()

    def close(self) -> None:
        """Stop the sandbox."""
        if self._executor is not None:
            self._executor.__exit__(None, None, None)
            self._executor = None

    def __call__(self, chunk: Chunk) -> Path:
        """Convert the rows of a chunk, in their order; returns the part's path."""
        if chunk.rows:
            parts.write(chunk.part, self._converted(chunk), made_from=self._made_from)
        return chunk.part

    def _converted(self, chunk: Chunk) -> parts.Converted:
        dropped: Counter[str] = Counter()
        found: list[Labelled] = []
        source = self._data.sources[chunk.source]
        for raw in sources.rows_of(source, chunk.rows):
            try:
                labelled = sources.example_of(source, raw)
            except DroppedError as reason:
                dropped[str(reason)] += 1
                continue
            fault = self._fault(labelled)
            if fault:
                dropped[fault] += 1
            else:
                found.append(labelled)
        found = self._running(found, dropped)
        kept = self._tokenized(found, dropped)
        return parts.Converted(
            source=chunk.source, num_rows=len(chunk.rows), kept=kept, dropped=dropped
        )

    def _fault(self, labelled: Labelled) -> str | None:
        example = labelled.example
        if not example.program.strip():
            return "program is empty"
        if labelled.right is None:
            fault = question_fault(
                example.question, min_characters=self._data.min_question_characters
            )
            if fault:
                return fault
        return "overlaps a benchmark" if self._overlap.hits(example.question) else None

    def _running(self, found: list[Labelled], dropped: Counter[str]) -> list[Labelled]:
        """Those whose program gives a finite number; all, if programs are not to be run."""
        if self._executor is None:
            return found
        code = [
            programs.source(labelled.example.question, labelled.example.program)
            for labelled in found
        ]
        kept: list[Labelled] = []
        executions = self._executor.run([Program(code=text) for text in code])
        for labelled, execution in zip(found, executions, strict=True):
            fault = execution_fault(execution)
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
