"""Rows as text: aligned for a terminal, or as Markdown for the results page."""

from collections.abc import Sequence
from statistics import median
from typing import Any, cast

Row = dict[str, Any]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):  # of repeats
        values = cast(list[float], value)
        low, middle, high = (_cell(each(values)) for each in (min, median, max))
        return middle if len(values) == 1 else f"{middle} [{low}, {high}]"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if value and abs(value) < 1e-3:
            return f"{value:.1e}"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def plain(rows: Sequence[Row]) -> str:
    """Columns side by side."""
    columns = _columns(rows)
    lines = [columns, *([_cell(row.get(key)) for key in columns] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown(rows: Sequence[Row]) -> str:
    """The same as a Markdown table."""
    columns = _columns(rows)
    lines = [columns, ["---"] * len(columns)]
    lines += [[_cell(row.get(key)) for key in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
