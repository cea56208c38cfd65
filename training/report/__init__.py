"""The results of a run: a page that opens from disk, a JSON file, a table.

    page = build_report(Path("runs/demo"))
    print_table = summary_table(read_json(page.with_name("report.json")))

It reads what the stages left on disk and computes nothing that the evaluation has
computed already. Whatever a run lacks is left out of the page.
"""

from training.report.build import build_report
from training.report.table import against_table, summary_table

__all__ = ["against_table", "build_report", "summary_table"]
