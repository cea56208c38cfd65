"""What was expected of an H100 and an H200 before any run, to print beside what came out.

All of these numbers are estimates of 2026-11-28, made from counted operations and bytes and from
the rates of others' measurements; none is a measurement of this code on a GPU.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench.gpu.table import Row

WHEN = "estimates of 2026-11-28"

Range = tuple[float, float]


@dataclass(frozen=True)
class Expected:
    """A range that one column of one row was expected to be in."""

    part: str
    row: str
    """What the row is called, in its first column."""
    column: str
    h100: Range
    h200: Range


_MFU, _SPEED, _SCORED = "mfu", "tokens_per_second", "candidates_per_second"
EXPECTED = (
    # 600 to 650 TFLOP/s for the model's products; large cubes reach 800.
    Expected("ceilings", "cube", "tflops", (600, 800), (770, 800)),
    Expected("ceilings", "fc1", "tflops", (600, 650), (600, 650)),
    Expected("ceilings", "a + b, bf16", "terabytes_per_second", (2.5, 2.9), (3.5, 4.3)),
    Expected("train", "4 sequences, recomputed", _MFU, (0.29, 0.31), (0.31, 0.34)),
    Expected("train", "16 sequences", _MFU, (0.44, 0.46), (0.46, 0.49)),
    Expected("train", "16 sequences, compiled", _MFU, (0.477, 0.506), (0.497, 0.536)),
    Expected("sample", "256 at a time", _SPEED, (14_000, 18_000), (14_000, 18_000)),
    Expected("sample", "512 at a time", _SPEED, (25_000, 32_000), (25_000, 32_000)),
    # 63,312 candidates in 80 to 90 seconds.
    Expected("score", "16384 tokens", _SCORED, (700, 790), (700, 800)),
)


def beside_expected(
    part: str, rows: Sequence[Row], *, ceilings: Mapping[str, float], device: str
) -> list[Row]:
    """The rows of a part with what was expected, and as fractions of the measured ceilings.

    Args:
        part: Its name.
        rows: What it measured.
        ceilings: As `ceilings_of` returns them; may be empty.
        device: The device's name.
    """
    return [_widened(part, row, ceilings, device) for row in rows]


def ceilings_of(rows: Sequence[Row]) -> dict[str, float]:
    """The best rate of the products, in TFLOP/s, and of moving memory, in TB/s."""
    return {
        column: max(found)
        for column in ("tflops", "terabytes_per_second")
        if (found := [row[column] for row in rows if column in row])
    }


_CEILING_OF = {
    "model_tflops": "tflops",
    "least_terabytes_per_second": "terabytes_per_second",
}


def _widened(part: str, row: Row, ceilings: Mapping[str, float], device: str) -> Row:
    name = str(next(iter(row.values())))
    found: Row = {}
    for column, value in row.items():
        found[column] = value
        ceiling = _CEILING_OF.get(column, "")
        if ceiling in ceilings and value is not None:
            found["of_ceiling"] = value / ceilings[ceiling]
        if expected := _expected(part, name, column, device):
            found["expected"] = expected
    return found


def _expected(part: str, row: str, column: str, device: str) -> str | None:
    known = re.search(r"\bH[12]00\b", device)
    for each in EXPECTED:
        if known and (each.part, each.row, each.column) == (part, row, column):
            low, high = each.h200 if known[0] == "H200" else each.h100
            return f"{low:,g} to {high:,g}"
    return None
