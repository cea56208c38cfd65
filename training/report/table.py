"""The tables that a recipe ends with on the terminal: benchmarks, and their distance from GSM8K."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from training.report.formatting import MISSING, Interval, interval, points, points_range


def summary_table(report: Mapping[str, Any]) -> Table:
    """The table of a `report.json`; accuracies in percent, differences in points."""
    benchmarks: Mapping[str, Any] = report.get("benchmarks") or {}
    sizes = sorted({str(entry.get("num_candidates") or MISSING) for entry in benchmarks.values()})
    table = _table(
        f"Questions answered right, % (N = {' or '.join(sizes) or MISSING})",
        "Gain: verify@N \u2212 greedy pass@1 in points, with its paired 95 % interval",
        "benchmark\nquestions",
        "pass@1\ngreedy",
        "pass@1\nsampled",
        "pass\n@N",
        "majority\n@N",
        "verify\n@N",
        "gain\n95 % interval",
    )
    for name, entry in _with_corrected(benchmarks):
        table.add_row(
            # Names come from config files: as text, never as markup.
            Text(f"{name}\n{entry.get('num_questions') or 0:,}", overflow="fold"),
            _percent(interval(entry.get("pass_at_1"))),
            _percent(_first(entry.get("pass_at_k"))),
            _percent(_last(entry.get("pass_at_k"))),
            _percent(_last(entry.get("majority_at_k"))),
            Text(_percent(_last(entry.get("verify_at_k"))), style="bold"),
            _difference(interval(entry.get("verify_minus_pass_at_1"))),
        )
    return table


def _with_corrected(benchmarks: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, entry in benchmarks.items():
        yield name, entry
        if entry.get("corrected"):
            yield f"{name}, corrected golds", entry["corrected"]


def against_table(report: Mapping[str, Any]) -> Table | None:
    """Differences from GSM8K by question; None where nothing is paired with it."""
    benchmarks: Mapping[str, Any] = report.get("benchmarks") or {}
    found = {name: entry.get("against_gsm8k") or {} for name, entry in benchmarks.items()}
    paired = {name: entry for name, entry in found.items() if entry.get("num_pairs")}
    if not paired:
        return None
    table = _table(
        "Difference from GSM8K on the shared questions, points",
        "Paired by question, with 95 % intervals",
        "benchmark\nGSM8K questions",
        "pass@1\ngreedy",
        "majority\n@N",
        "verify\n@N",
    )
    for name, entry in paired.items():
        cells = [
            _difference(interval((entry.get(measure) or {}).get("difference")))
            for measure in ("pass_at_1", "majority_at_n", "verify_at_n")
        ]
        table.add_row(Text(f"{name}\n{entry['num_pairs']:,}", overflow="fold"), *cells)
    return table


def _table(title: str, caption: str, names: str, *headings: str) -> Table:
    """An empty table: a column of names, then columns of numbers."""
    table = Table(
        title=title,
        caption=caption,
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1),
    )
    table.add_column(names)
    for heading in headings:
        # Numbers are never truncated: on a narrow terminal the names wrap instead.
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _percent(value: Interval | None) -> str:
    return MISSING if value is None else f"{100 * value.value:.1f}"


def _first(by_k: Any) -> Interval | None:
    return interval((by_k or {}).get("1"))


def _last(by_k: Any) -> Interval | None:
    return interval(by_k[max(by_k, key=int)]) if by_k else None


def _difference(value: Interval | None) -> Text:
    if value is None:
        return Text(MISSING)
    low, high = value.ends
    style = "green" if low > 0 else "red" if high < 0 else ""
    return Text(f"{points(value.value)}\n{points_range(value)}".rstrip(), style=style)
