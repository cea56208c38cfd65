"""Counts rows, examples and tokens while data is prepared, for its manifest and its summary."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from training.config import DataConfig
from training.data import filters_page
from training.data.filter_counts import FilterCounts
from training.data.pack import Examples, Mode, Sequences
from training.data.parts import Head


class Counts:
    """Rows read, examples kept and dropped by source, and tokens packed."""

    def __init__(self, data: DataConfig, text_of: Callable[[list[int]], str]) -> None:
        """Start at zero, with an entry for each source in `data`.

        Args:
            data: The sources.
            text_of: The text of tokens, for the examples that `filters.md` shows.
        """
        self._data = data
        self._for_verifier = data.is_for_verifier
        self._rows_read = [0] * len(data.sources)
        self._examples_kept = [0] * len(data.sources)
        self.filters = [FilterCounts() for _ in data.sources]
        """What was dropped and repaired, by source."""
        self._text_of = text_of
        self._right = self._tokens = self._supervised_tokens = 0
        self.sequences: list[int] = []
        """Packed sequences of each source, or of all together."""
        self._most_examples = 0

    def read(self, part: Head) -> None:
        """Count the rows that a part was made from, those dropped and those repaired on the way."""
        self._rows_read[part.source] += part.num_rows
        self.filters[part.source].add(part.filters)

    def drop(self, source: int, reason: str, examples: Examples) -> None:
        """Count examples of a source that are dropped."""
        filters = self.filters[source]
        for index in range(len(examples)):
            shown = ""
            if filters.wants_example(reason):
                shown = self._text_of(examples.between(index, index + 1).tokens.tolist())
            filters.drop(reason, shown)

    def add(self, source: int, examples: Examples) -> None:
        """Count examples that are kept, and their tokens."""
        prompts, modes = examples.lengths[:, 0], examples.modes
        self._examples_kept[source] += len(examples)
        self._right += int((modes[:, 1] == Mode.RIGHT).sum())
        self._tokens += len(examples.tokens)
        # The first token is never predicted.
        unsupervised = np.where(modes[:, 0] != Mode.CONTEXT, 1, prompts)
        self._supervised_tokens += len(examples.tokens) - int(unsupervised.sum())

    def pack(self, sequences: Sequences) -> None:
        """Count packed sequences, for the last entry of `sequences`."""
        self.sequences[-1] += len(sequences)
        self._most_examples = max(self._most_examples, int(sequences.num_examples.max(initial=0)))

    def facts(self) -> dict[str, Any]:
        """The counts as the manifest keeps them."""
        examples, sequences = sum(self._examples_kept), sum(self.sequences)
        capacity = sequences * self._data.sequence_length
        right = {"right_examples": self._right} if self._for_verifier else {}
        return {
            "head": "verifier" if self._for_verifier else "language_model",
            "sequence_length": self._data.sequence_length,
            "sequences": sequences,
            "most_examples_in_a_sequence": self._most_examples,
            "examples": examples,
            **right,
            "tokens": self._tokens,
            "supervised_tokens": self._supervised_tokens,
            "tokens_per_example": self._tokens / max(examples, 1),
            "padding_fraction": 1 - self._tokens / max(capacity, 1),
            "sources": [self._source_facts(number) for number in range(len(self._data.sources))],
        }

    def _source_facts(self, number: int) -> dict[str, Any]:
        are_apart = bool(self._data.source_weights)
        wrong = self.filters[number].wrong
        return {
            "kind": self._data.sources[number].kind,
            "rows_read": self._rows_read[number],
            "examples_kept": self._examples_kept[number],
            **({"sequences": self.sequences[number]} if are_apart else {}),
            "dropped": dict(self.filters[number].dropped.most_common()),
            "repaired": dict(self.filters[number].repaired.most_common()),
            **({"wrong": dict(wrong.most_common())} if wrong else {}),
            "overlaps": dict(self.filters[number].overlaps),
        }

    def dropped_lines(self) -> str:
        """How many rows were dropped for each reason, a line each; for when none is left."""
        lines = [f"  {sum(self._rows_read):,} rows were read"]
        for filters in self.filters:
            found = filters.dropped.most_common()
            lines += [f"  {number:,} dropped: {reason}" for reason, number in found]
        return "\n".join(lines)


def outdated(facts: Mapping[str, Any]) -> str:
    """How facts of a manifest show that an older version prepared the data; empty: they do not."""
    missing = [name for name in ("sequences", "most_examples_in_a_sequence") if name not in facts]
    if not missing:
        return ""
    return (
        f"was prepared by an older version (its manifest has no facts.{missing[0]}): prepare it "
        "again with launch/prepare.py"
    )


def print_facts(folder: Path, facts: dict[str, Any]) -> None:
    """Print a table of what a prepared folder holds."""
    console = Console()
    console.print(f"prepared {folder}", soft_wrap=True)
    table = Table()
    table.add_column("what")
    table.add_column("number", justify="right")
    for source in facts["sources"]:
        table.add_row(f"{source['kind']}: rows read", f"{source['rows_read']:,}")
        for reason, number in source["dropped"].items():
            table.add_row(f"  dropped: {reason}", f"{number:,}")
        for what, number in source["repaired"].items():
            table.add_row(f"  repaired: {what}", f"{number:,}")
        for reason, number in source.get("wrong", {}).items():
            table.add_row(f"  wrong: {reason}", f"{number:,}")
        table.add_row("  kept", f"{source['examples_kept']:,}")
    table.add_section()
    if "right_examples" in facts:
        table.add_row("right candidates", f"{facts['right_examples']:,} of {facts['examples']:,}")
    table.add_row("tokens", f"{facts['tokens']:,}")
    table.add_row("supervised tokens", f"{facts['supervised_tokens']:,}")
    table.add_row("tokens per example", f"{facts['tokens_per_example']:.1f}")
    table.add_row(f"sequences of {facts['sequence_length']:,} tokens", f"{facts['sequences']:,}")
    table.add_row("padding", f"{facts['padding_fraction']:.2%}")
    console.print(table)
    console.print(f"examples of what was dropped: {folder / filters_page.NAME}", soft_wrap=True)
