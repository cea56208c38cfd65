"""Writes `filters.md` into a data folder: what the filters dropped and repaired, with examples.

outputs.append(write(folder, facts["sources"], filters))
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from training.data import reasons
from training.data.filter_counts import NUM_EXAMPLES, FilterCounts

NAME = "filters.md"

_HEAD = f"""# What the filters did

Written by `prepare`. The first {NUM_EXAMPLES} examples of each reason follow the counts of each
source. Under a question that `{reasons.OVERLAP}`, the line `=` is the n-gram in common; under a
`{reasons.NEAR_BENCHMARK}`, the line `~` is that question.
"""


def write(
    folder: Path, sources: Sequence[Mapping[str, Any]], filters: Sequence[FilterCounts]
) -> Path:
    """Write the page; returns its path.

    Args:
        folder: The data folder.
        sources: The counts of each source, as in the manifest.
        filters: What the filters did to each source.
    """
    path = folder / NAME
    lines = [_HEAD]
    for number, (source, counts) in enumerate(zip(sources, filters, strict=True)):
        lines += _of_source(number, source, counts)
    path.write_text("\n".join(lines), encoding="utf-8", newline="\n")
    return path


def _of_source(number: int, source: Mapping[str, Any], counts: FilterCounts) -> Iterator[str]:
    yield f"## Source {number}: {source['kind']}\n"
    yield from _table(
        {
            "rows read": source["rows_read"],
            **{f"dropped: {reason}": count for reason, count in source["dropped"].items()},
            **{f"repaired: {name}": count for name, count in source["repaired"].items()},
            **{f"wrong: {reason}": count for reason, count in source.get("wrong", {}).items()},
            "examples kept": source["examples_kept"],
        },
        source["rows_read"],
    )
    if source["overlaps"]:
        yield "Questions that overlap a benchmark, whichever of these the config drops:\n"
        yield from _table(source["overlaps"], source["rows_read"])
    for reason in (*source["dropped"], *source["repaired"], *source.get("wrong", {})):
        if texts := counts.examples.get(reason):
            yield f"### {reason}\n"
            yield from map(_block, texts)


def _table(counts: Mapping[str, int], total: int) -> Iterator[str]:
    yield "| what | rows | of all |\n|---|---:|---:|"
    for name, count in counts.items():
        yield f"| {name} | {count:,} | {count / max(total, 1):.3%} |"
    yield ""


def _block(text: str) -> str:
    """A text as it is: the fence is longer than any in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}\n"
