"""The table that a recipe ends with on the terminal: one row per benchmark."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from training.report.formatting import MISSING, Interval, interval, points, points_range


def summary_table(report: Mapping[str, Any]) -> Table:
    """The table of a `report.json`; accuracies in percent, differences in points."""
    benchmarks: Mapping[str, Any] = report.get("benchmarks") or {}
    sizes = sorted({str(entry.get("num_candidates") or MISSING) for entry in benchmarks.values()})
    table = Table(
        title=f"Questions answered right, % (N = {' or '.join(sizes) or MISSING})",
        caption="Gain: verify@N \u2212 greedy pass@1 in points, with its paired 95 % interval",
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1),
    )
    table.add_column("benchmark\nquestions")
    for heading in (
        "pass@1\ngreedy",
        "pass@1\nsampled",
        "pass\n@N",
        "majority\n@N",
        "verify\n@N",
        "gain\n95 % interval",
    ):
        # Numbers are never truncated: on a narrow terminal the names wrap instead.
        table.add_column(heading, justify="right", no_wrap=True)
    for name, entry in benchmarks.items():
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
