"""Every layout against one rank, and every change of layout on resume: `make test-layouts`.

Prints Markdown; ends with 1 if a difference is beyond its tolerance.
"""

import sys
import tempfile
from pathlib import Path

from tests.layouts.cases import (
    COMPILED,
    FULL,
    ONE,
    REDUCED,
    RESUMES,
    STEPS,
    TOLERANCES,
    Runs,
    prepared,
)

HEADS = ("language_model", "verifier")


def main() -> int:
    """Run the whole matrix."""
    failed = False
    with tempfile.TemporaryDirectory(prefix="layouts-") as scratch:
        columns: dict[tuple[str, str, str], list[float]] = {}
        resumed: list[list[float]] = []
        for head in HEADS:
            base = prepared(Path(scratch) / head, head)
            exact = Runs(base=base, folder=Path(scratch) / f"{head}_fp32")
            rounded = Runs(base=base, folder=Path(scratch) / f"{head}_bf16", precision="bf16")
            # The fast ways are compared with the plain one rank in fp32 as well.
            for runs, fast in ((exact, COMPILED), (rounded, REDUCED)):
                print(f"{head}, {runs.precision}", file=sys.stderr, flush=True)
                runs.train((ONE, *FULL, *fast) if runs is exact else (*FULL, *fast))
                for case in (*FULL, *fast):
                    columns[case.name, runs.precision, head] = runs.differences(case, exact)
                    failed |= not runs.within(case, exact)
            if head == HEADS[0]:
                exact.resume(RESUMES)
                resumed = [exact.resumed_differences(*pair) for pair in RESUMES]
    print(f"Largest relative difference to one rank over {STEPS} steps:\n")
    print("| layout | " + " | ".join(_headings()) + " |")
    print("|---" * (1 + len(_headings())) + "|")
    for case in (*FULL, *COMPILED, *REDUCED):
        cells = [
            columns.get((case.name, precision, head), [None, None])
            for head in HEADS
            for precision in TOLERANCES
        ]
        shown = ["-" if value is None else f"{value:.0e}" for each in cells for value in each]
        print(f"| {case.name} | " + " | ".join(shown) + " |")
    print("\nResumed halfway at another layout, against the uninterrupted run:\n")
    print("| saved at | resumed at | loss | gradient norm | moments |")
    print("|---|---|---|---|---|")
    for (saved, case), values in zip(RESUMES, resumed, strict=True):
        print(f"| {saved.name} | {case.name} | " + " | ".join(f"{v:.0e}" for v in values) + " |")
        failed |= max(values) > max(TOLERANCES["fp32"])
    return int(failed)


def _headings() -> list[str]:
    return [
        f"{head} {precision} {number}"
        for head in ("generator", "verifier")
        for precision in TOLERANCES
        for number in ("loss", "norm")
    ]


if __name__ == "__main__":
    sys.exit(main())
