"""Every recorded program gives what it gave when it was run once in plain CPython 3.11.

The record was made without a sandbox, with numpy and sympy and 3 s of CPU each.
"""

import gzip
import json
import math
from typing import Any

import pytest

from tests.training.data.real import real_data
from training.execution.executor import Executor, Limits, Program, judge

STATUS = {"ok": "ok", "ok-nonnumeric": "nonnumeric", "error": "error", "timeout": "timeout"}

EXPLAINED = {
    "p13692": "gives numpy.float64(194.86): a number to us, no int or float to the record",
}
"""The programs whose outcome differs from the record, and why each should."""


def test_same_verdict_and_value_as_recorded() -> None:
    path = real_data("programs/programs.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows: list[dict[str, Any]] = [json.loads(line) for line in stream]
    assert len(rows) == 17_335
    with Executor(limits=Limits(), num_workers=2) as executor:
        results = executor.run([Program(code=row["code"], kind=row["kind"]) for row in rows])
    different: set[str] = set()
    for row, result in zip(rows, results, strict=True):
        status, value = STATUS[row["exec_status"]], None
        if status == "ok":
            value = float(row["exec_value"])
            if not math.isfinite(value):  # the record counts a NaN as a number
                status, value = "nonnumeric", None
        # Last digits may move with the version of CPython (sums) and of the C library.
        same = value == result.value or (
            value is not None
            and result.value is not None
            and value == pytest.approx(result.value, rel=1e-12)
        )
        if (result.status, same) != (status, True):
            different.add(row["id"])
        elif row["gold"] is not None:
            right = judge(result, row["gold"]) == "right"
            if right != row["exec_correct"]:
                different.add(row["id"])
    assert different == set(EXPLAINED)
    by_monty = sum(result.tier == "monty" for result in results)
    assert by_monty > 14_000  # the cheap tier takes what it can
