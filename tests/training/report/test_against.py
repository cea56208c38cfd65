"""What the report and the terminal show of benchmarks beside GSM8K and of corrected golds."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.training.report.run_folder import write_run
from training.files import read_json, write_json
from training.report import against_table, build_report, summary_table

NAMES = ("gsm8k", "gsm8k_platinum", "gsm_symbolic_p2", "svamp")


def interval(value: float, width: float = 0.02) -> dict[str, float]:
    return {"value": value, "low": value - width, "high": value + width}


def against(num_pairs: int, num_questions: int, difference: float) -> dict[str, Any]:
    there = {"pass_at_1": 0.46, "majority_at_n": 0.58, "verify_at_n": 0.64}
    return {
        "reference": "gsm8k",
        "num_pairs": num_pairs,
        "num_questions": num_questions,
        **{
            name: {
                "here": interval(value + difference, 0.03),
                "there": interval(value, 0.03),
                "difference": interval(difference * (1.2 if name == "pass_at_1" else 1)),
            }
            for name, value in there.items()
        },
    }


def write(folder: Path, *, verifier: bool = True) -> Path:
    """A run on GSM8K with corrected golds, two sets that are paired with it and one that is not."""
    write_run(folder, benchmarks=NAMES, questions=40, verifier=verifier)
    path = folder / "evaluation" / "evaluation.json"
    content = read_json(path)
    found = content["benchmarks"]
    corrected = {key: value for key, value in found["gsm8k"].items() if key != "by_operations"}
    corrected |= {"num_questions": 37, "pass_at_1": interval(0.4321)}
    found["gsm8k"]["corrected"] = {**corrected, "num_changed": 1, "num_removed": 3}
    found["gsm8k_platinum"]["against_gsm8k"] = against(1209, 1209, 0.012)
    found["gsm_symbolic_p2"] |= {"against_gsm8k": against(100, 2500, -0.123), "num_left_out": 7}
    found["svamp"]["against_gsm8k"] = {"reference": "gsm8k", "num_pairs": 0, "num_questions": 0}
    write_json(path, content)
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = write(tmp_path_factory.mktemp("against") / "run")
    return build_report(folder).read_text("utf-8")


def section(page: str) -> str:
    return page.partition('<section id="against">')[2].partition("</section>")[0]


def row(table: str, name: str) -> list[str]:
    cells = table.partition(f'<th scope="row">{name}</th>')[2].partition("</tr>")[0]
    return re.findall("<td>(.*?)</td>", cells)


def test_paired_benchmarks_have_differences(page: str) -> None:
    cells = row(section(page), "gsm_symbolic_p2")

    assert cells[0] == "2,500<small>of 100 on GSM8K</small>"
    assert [cell.partition("<")[0] for cell in cells[1:]] == [
        "33.7",
        "46.0",
        "\u221214.8",
        "51.7",
        "64.0",
        "\u221212.3",
    ]
    assert "\u221214.3 to \u221210.3" in cells[-1]
    assert "Difference from GSM8K" in section(page) and "<svg" in section(page)


def test_others_stand_side_by_side(page: str) -> None:
    cells = row(section(page), "svamp")

    assert cells[0] == "40<small>not paired</small>"
    assert cells[3] == cells[6] == "–" and "–" not in (cells[1], cells[2], cells[4], cells[5])
    assert row(section(page), "gsm8k") == []


def test_both_golds_are_shown_and_what_was_left_out(page: str) -> None:
    headline = page.partition('<section id="headline">')[2].partition("</section>")[0]

    published, corrected = row(headline, "gsm8k"), row(headline, "gsm8k<br>corrected golds")
    assert published[0].startswith("40<small>N = 16<")
    assert corrected[0] == "37<small>N = 16<br>1 corrected<br>3 removed</small>"
    assert corrected[1].startswith("43.2") and not published[1].startswith("43.2")
    assert "7 left out" in row(headline, "gsm_symbolic_p2")[0]
    assert "Left out: questions whose" in headline and "Corrected golds: the same" in headline


def test_without_a_verifier_the_vote_is_compared(tmp_path: Path) -> None:
    text = section(build_report(write(tmp_path / "run", verifier=False)).read_text("utf-8"))

    assert "majority@N" in text and "verify@N" not in text
    assert row(text, "gsm8k_platinum")[4].startswith("59.2")


def test_a_run_without_gsm8k_has_no_such_section(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", questions=5)

    assert 'id="against"' not in build_report(folder).read_text("utf-8")
    assert against_table(read_json(folder / "report.json")) is None


def test_the_terminal_s_tables_fit_eighty_columns(tmp_path: Path) -> None:
    folder = write(tmp_path / "run")
    build_report(folder)
    report = read_json(folder / "report.json")
    written = io.StringIO()
    console = Console(width=80, file=written)
    console.print(summary_table(report))
    console.print(against_table(report))
    text = written.getvalue()

    assert re.search(r"gsm8k, +43\.2", text) and "corrected" in text and "…" not in text
    line = next(line for line in text.splitlines() if "\u221214.8" in line)
    assert "gsm_symbolic_p2" in line and "\u221212.3" in line
