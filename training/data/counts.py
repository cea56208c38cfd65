"""Counts rows, examples and tokens while data is prepared, for its manifest and its summary."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from training.config import DataConfig
from training.data.pack import Mode, TokenizedExample
from training.data.parts import Converted, Kept


class Counts:
    """Rows read, examples kept and dropped by source, and tokens packed."""

    def __init__(self, data: DataConfig) -> None:
        """Start at zero, with an entry for each source in `data`."""
        self._data = data
        self._for_verifier = data.is_for_verifier
        self._rows_read = [0] * len(data.sources)
        self._examples_kept = [0] * len(data.sources)
        self._dropped = [Counter[str]() for _ in data.sources]
        self._repaired = [Counter[str]() for _ in data.sources]
        self._modes = Counter[Mode]()
        self._tokens = self._supervised_tokens = 0
        self.sequences = 0
        """Packed sequences; whoever writes them counts them here."""

    def read(self, parts: Iterable[Converted]) -> Iterator[Kept]:
        """The examples of parts, counting the rows they were made from and those dropped."""
        for part in parts:
            self._rows_read[part.source] += part.num_rows
            self._dropped[part.source] += part.dropped
            self._repaired[part.source] += part.repaired
            yield from part.kept

    def without_dropped(self, source: int, marked: Iterable[tuple[Kept, str]]) -> Iterator[Kept]:
        """The examples of a source that stay, counting the others by their reason."""
        for kept, reason in marked:
            if reason:
                self._dropped[source][reason] += 1
            else:
                yield kept

    def add(self, source: int, example: TokenizedExample) -> None:
        """Count an example that is kept, and its tokens."""
        self._examples_kept[source] += 1
        self._modes[example.program_mode] += 1
        self._tokens += len(example)
        # The first token is never predicted.
        unsupervised = 1 if example.prompt_mode else example.num_prompt_tokens
        self._supervised_tokens += len(example) - unsupervised

    def facts(self) -> dict[str, Any]:
        """The counts as the manifest keeps them."""
        examples, capacity = sum(self._examples_kept), self.sequences * self._data.sequence_length
        right = {"right_examples": self._modes[Mode.RIGHT]} if self._for_verifier else {}
        return {
            "head": "verifier" if self._for_verifier else "language_model",
            "sequence_length": self._data.sequence_length,
            "sequences": self.sequences,
            "examples": examples,
            **right,
            "tokens": self._tokens,
            "supervised_tokens": self._supervised_tokens,
            "tokens_per_example": self._tokens / max(examples, 1),
            "padding_fraction": 1 - self._tokens / max(capacity, 1),
            "sources": [
                {
                    "kind": source.kind,
                    "rows_read": self._rows_read[number],
                    "examples_kept": self._examples_kept[number],
                    "dropped": dict(self._dropped[number].most_common()),
                    "repaired": dict(self._repaired[number].most_common()),
                }
                for number, source in enumerate(self._data.sources)
            ],
        }

    def dropped_lines(self) -> str:
        """How many rows were dropped for each reason, a line each; for when none is left."""
        lines = [f"  {sum(self._rows_read):,} rows were read"]
        for dropped in self._dropped:
            lines += [f"  {number:,} dropped: {reason}" for reason, number in dropped.most_common()]
        return "\n".join(lines)


def outdated(facts: Mapping[str, Any]) -> str:
    """How facts of a manifest show that an older version prepared the data; empty: they do not."""
    if "sequences" in facts:
        return ""
    return (
        "was prepared by an older version (its manifest has no facts.sequences): prepare it again "
        "with launch/prepare.py"
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
        table.add_row("  kept", f"{source['examples_kept']:,}")
    table.add_section()
    if "right_examples" in facts:
        table.add_row("right programs", f"{facts['right_examples']:,} of {facts['examples']:,}")
    table.add_row("tokens", f"{facts['tokens']:,}")
    table.add_row("supervised tokens", f"{facts['supervised_tokens']:,}")
    table.add_row("tokens per example", f"{facts['tokens_per_example']:.1f}")
    table.add_row(f"sequences of {facts['sequence_length']:,} tokens", f"{facts['sequences']:,}")
    table.add_row("padding", f"{facts['padding_fraction']:.2%}")
    console.print(table)
